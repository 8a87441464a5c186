"""Stage `survey`: checks whether the loss of the gold answers ranks known candidates as the tasks' metrics do.

The loss is computed, without gradients, for candidates whose scores are known: base, fine-tunes, points of the line. If
it ranks them differently, following its gradient would not improve the metrics, and the stage `descent` is skipped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy.stats import rankdata

from ....search_spaces import METHOD, Params
from ..sampler import Proposal
from .history import Arm, History

NAME = "survey"
MOST = 8  # candidates whose loss is computed
LEAST_CORRELATION = 0.6


def propose(history: History) -> Proposal | None:
    """Return the next known candidate to compute the loss of; None if there is none left."""
    arm = history.leading
    if arm is None or any(o.slopes is None for o in history.of_stage(NAME)):
        return None  # one failed: the tasks have no gold answers, and the others would fail too
    asked = [proposal.params for proposal in history.asked(NAME)]
    for params, _ in _known(history, arm) if len(asked) < MOST else ():
        if params not in asked:
            return Proposal(params, NAME, probe="loss")
    return None


def trusted(history: History) -> bool:
    """Whether the survey has found that the loss ranks candidates as the metrics do."""
    if history.waiting(NAME):
        return False
    found = correlation(history)
    return math.isfinite(found) and found >= LEAST_CORRELATION


def correlation(history: History) -> float:
    """Return Spearman's rank correlation of value and negated loss over the survey's candidates; NaN for too few."""
    arm = history.leading
    if arm is None:
        return float("nan")
    found = ((o.params, o.slopes) for o in history.of_stage(NAME))
    losses = {_key(params): slopes.loss for params, slopes in found if slopes is not None}
    pairs = [(value, -losses[_key(params)]) for params, value in _known(history, arm) if _key(params) in losses]
    if len(pairs) < 4 or len({value for value, _ in pairs}) < 3:
        return float("nan")
    values, negated = np.array(pairs).T
    return float(np.corrcoef(rankdata(values), rankdata(negated))[0, 1])


def _known(history: History, arm: Arm) -> Iterator[tuple[Params, float]]:
    """Yield points of the arm with their values: its best and worst, the fine-tunes and the base, then the rest."""
    scored = [o for o in history.scored if o.params and o.params[METHOD] == arm.method and o.value is not None]
    ranked = sorted(scored, key=lambda o: -(o.value or 0.0))
    outside = [o for o in history.scored if not o.params]
    singles = [(params, o.value or 0.0) for o in outside if (params := arm.as_params(o)) is not None]
    ends = [ranked[0], ranked[-1]] if len(ranked) > 1 else ranked
    yield from ((o.params, o.value or 0.0) for o in ends if o.params)
    yield from singles
    yield from ((o.params, o.value or 0.0) for o in ranked[1:-1] if o.params)


def _key(params: Params) -> str:
    return str(sorted(params.items()))

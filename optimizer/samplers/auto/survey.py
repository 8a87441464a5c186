"""Stage `survey`: checks whether the loss of the gold answers ranks known candidates as the tasks' metrics do.

The loss is computed, without gradients, for candidates whose scores are known: base, fine-tunes, points of the line. If
it ranks them differently, following its gradient would not improve the metrics, and the stage `descent` is skipped.
Only pairs count that loss and score both tell apart: the ranks of candidates that are about equally good are noise. If
there are too few such pairs, `descent` is tried, since its candidates are scored by the metrics in any case.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations

from ....search_spaces import METHOD, Params
from ...proposal import Slopes
from ..sampler import Observation, Proposal
from .history import Arm, History

NAME = "survey"
MOST = 8  # candidates whose loss is computed
LEAST_CANDIDATES = 4
LEAST_PAIRS = 3  # on which to judge the loss
LEAST_ALIKE = 0.8  # the share of pairs that the loss has to rank as the score does


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
    """Whether the survey is over and speaks for the loss, or at least not against it."""
    if history.waiting(NAME) or len(_compared(history)) < LEAST_CANDIDATES:
        return False
    alike, pairs = agreement(history)
    return pairs < LEAST_PAIRS or alike >= LEAST_ALIKE * pairs


def agreement(history: History) -> tuple[int, int]:
    """Return how many pairs of candidates loss and score rank alike, of how many that both tell apart.

    They tell a pair apart if its difference is larger than its standard error, as if the two were independent. They are
    scored on the same items, so a difference is known better than that.
    """
    alike = pairs = 0
    for (first, a), (second, b) in combinations(_compared(history), 2):
        score, loss = (first.value or 0.0) - (second.value or 0.0), a.loss - b.loss
        if abs(score) > math.hypot(first.stderr, second.stderr) and abs(loss) > math.hypot(a.stderr, b.stderr):
            pairs += 1
            alike += (score > 0) == (loss < 0)
    return alike, pairs


def _compared(history: History) -> list[tuple[Observation, Slopes]]:
    """Return the candidates whose score and loss are known."""
    if (arm := history.leading) is None:
        return []
    losses = {_key(o.params): o.slopes for o in history.of_stage(NAME) if o.slopes is not None}
    return [(o, losses[_key(params)]) for params, o in _known(history, arm) if _key(params) in losses]


def _known(history: History, arm: Arm) -> Iterator[tuple[Params, Observation]]:
    """Yield points of the arm with their scores: its best and worst, the fine-tunes and the base, then the rest."""
    scored = [o for o in history.scored if o.params and o.params[METHOD] == arm.method and o.value is not None]
    ranked = sorted(scored, key=lambda o: -(o.value or 0.0))
    outside = [o for o in history.scored if not o.params]
    ends = [ranked[0], ranked[-1]] if len(ranked) > 1 else ranked
    yield from ((o.params, o) for o in ends)
    yield from ((params, o) for o in outside if (params := arm.as_params(o)) is not None)
    yield from ((o.params, o) for o in ranked[1:-1])


def _key(params: Params) -> str:
    return str(sorted(params.items()))

"""Stage `descent`: steps against the gradient of the gold answers' loss in all weights at once.

A merge of task vectors is linear in its weights, theta(w) = theta_0 + sum_k w_k m_k tau_k, so one backward pass gives
dL/dw_k = <dL/dtheta, m_k tau_k> for every model, knot and filter. AdaMerging (Yang et al. 2023, arXiv:2310.02575) and
SuperMerge (arXiv:2412.10416) learn merge weights in this way. A step costs about three forward passes per item,
whatever the number of weights. The steps only propose candidates, which are scored by the tasks' metrics like all
others.

The steps are those of Adam (Kingma and Ba 2015, arXiv:1412.6980), limited to STEP per weight. The standard error of a
derivative over items is added to Adam's second moment, so uncertain derivatives move the weights less. The weights of
the lowest loss become a candidate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....search_spaces import Params
from ..sampler import Observation, Proposal
from . import survey
from .history import History

NAME = "descent"
CHECKED = "descended"  # the stage of the candidates that are scored after some of the steps
STEPS = 10
STEP = 0.12  # the largest change of a weight per step, times the mean of the weights above 0 at the start
FIRST, SECOND = 0.5, 0.9  # decay of Adam's moments; the first slopes are the largest, and a long memory overshoots
CHECKS = (5, 10)  # steps after which the weights of the lowest loss so far are scored


def propose(history: History) -> Proposal | None:
    """Return the next step, or the next candidate to score; None if this stage has nothing to propose now."""
    arm = history.leading
    if arm is None or not trusted(history):
        return None
    start = next((o.proposal.params for o in history.of_stage(NAME)), None) or _start(history)
    if start is None:
        return None
    done = [o for o in history.of_stage(NAME) if o.slopes is not None and o.slopes.by_dimension]
    path = weights_of(start, done, _names(history))
    scored = sum(1 for _ in history.asked(CHECKED))
    due = sum(step <= len(done) for step in CHECKS)
    if scored < due:
        # Every step sees the same items, so that their losses can be compared. The start itself is scored already.
        losses = [o.slopes.loss for o in done[1 : CHECKS[scored]] if o.slopes is not None]
        return Proposal({**start, **_named(history, path[1 + int(np.argmin(losses))])}, CHECKED)
    if len(done) >= STEPS or history.waiting(NAME) or len(history.of_stage(NAME)) > len(done):
        return None  # all steps are done, one is under way, or one has failed
    return Proposal({**start, **_named(history, path[-1])}, NAME, probe="gradient")


def trusted(history: History) -> bool:
    """Return whether the survey found that the loss ranks candidates as the metrics do."""
    if history.waiting(survey.NAME):
        return False
    found = survey.correlation(history)
    return math.isfinite(found) and found >= survey.LEAST_CORRELATION


def weights_of(start: Params, steps: Sequence[Observation], names: Sequence[str]) -> list[np.ndarray]:
    """Return the weights at the start and after every step, each (len(names),)."""
    x = np.array([float(start[name]) for name in names])
    largest = STEP * (float(np.mean(x[x > 0])) if (x > 0).any() else 0.1)
    first, second, path = np.zeros_like(x), np.zeros_like(x), [x]
    for t, observation in enumerate(steps, start=1):
        assert observation.slopes is not None, "Should not reach."
        slope = np.array([observation.slopes.by_dimension.get(name, 0.0) for name in names])
        error = np.array([observation.slopes.errors.get(name, 0.0) for name in names])
        first = FIRST * first + (1 - FIRST) * slope
        second = SECOND * second + (1 - SECOND) * (slope**2 + error**2)
        size = np.sqrt(second / (1 - SECOND**t))
        direction = np.divide(first / (1 - FIRST**t), size, out=np.zeros_like(x), where=size > 0)
        decay = 1.0 if t <= STEPS // 2 else 0.5
        x = np.maximum(x - largest * decay * np.clip(direction, -1, 1), 0.0)
        path.append(x)
    return path


def _start(history: History) -> Params | None:
    """Return the best point of the leading arm so far."""
    arm = history.leading
    best = None if arm is None else history.best((arm.method,))
    return None if best is None else best.params


def _names(history: History) -> list[str]:
    arm = history.leading
    assert arm is not None and arm.coordinates.weights is not None, "Should not reach."
    return [d.name for dimensions in arm.coordinates.weights.by_model.values() for d in dimensions]


def _named(history: History, weights: np.ndarray) -> dict[str, float]:
    arm = history.leading
    assert arm is not None and arm.coordinates.weights is not None, "Should not reach."
    highs = {d.name: d.high for dimensions in arm.coordinates.weights.by_model.values() for d in dimensions}
    return {name: min(highs[name], float(w)) for name, w in zip(_names(history), weights, strict=True)}

"""The rule that ends a search early: a gain large enough for the select items to detect has become improbable.

The search ends if either of two estimates of that probability is below PROBABILITY:

* the Gaussian process: the largest probability, over all points, of such a gain over the best candidate;
* Laplace's rule of succession: after K candidates without such a gain, the next one has it with 1 / (K + 2).
"""

from __future__ import annotations

import math

from ....search_spaces import Coordinates
from ..gp import arm_data
from ..gp_model import GaussianProcess
from ..sampler import Observation, Stop, derived_seed
from . import refine
from .history import History

PROBABILITY = 0.05
FIRST = 6  # candidates of the last stage before the first check
EVERY = 3  # candidates of the last stage between checks, since each check fits a process


def reason_to_stop(history: History, index: int) -> Stop | None:
    """Return why the search should end, or None to continue."""
    best = history.best()
    told = sum(o.value is not None for o in history.of_stage(refine.NAME))
    if best is None or told < FIRST or not math.isfinite(best.resolution):
        return None
    threshold, axes = best.resolution, max((len(arm.axes) for arm in refine.best_arms(history)), default=0)
    idle = candidates_since_gain(history, threshold)
    if 1 / (idle + 2) < PROBABILITY:
        return Stop(f"none of the last {idle} candidates gained more than {threshold:.4f}", axes)
    if told % EVERY or axes > refine.MOST_AXES:
        return None
    chance = max((_chance(history, arm, best, index) for arm in refine.best_arms(history)), default=0.0)
    if chance >= PROBABILITY:
        return None
    return Stop(f"the probability of a gain of more than {threshold:.4f} is {chance:.2f}", axes)


def candidates_since_gain(history: History, threshold: float) -> int:
    """Count the proposals since the last one that beat all before it by more than `threshold`."""
    level, count = -math.inf, 0
    for observation in history.told:
        if observation.probe:
            continue
        value = observation.value if observation.complete and observation.violation == 0 else None
        count += not observation.warm_start
        if value is not None and value > level + (0.0 if observation.warm_start else threshold):
            level, count = value, 0
    return count


def _chance(history: History, arm: Coordinates, best: Observation, index: int) -> float:
    if len(arm.axes) > refine.MOST_AXES:
        return 1.0
    process = GaussianProcess(arm_data(arm, history.told), derived_seed(history.seed, "stop", index))
    inside = [o for o in history.scored if arm.matches(o.params)]
    reference = max(inside, key=lambda o: (o.complete, o.value or 0.0))
    behind = max(0.0, (best.value or 0.0) - (reference.value or 0.0))
    return process.gain(arm.point(reference.params), best.resolution + behind)

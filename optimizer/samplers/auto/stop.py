"""When a search has nothing better to find: the probability of a gain that the select items could show is small.

Two estimates of that probability, either of which ends the search:

* the Gaussian process's: the largest probability of any point to beat the best one by more than the select items tell,
* Laplace's rule of succession: after K candidates without such a gain, the next one brings it with 1 / (K + 2).
"""

from __future__ import annotations

import math

from ..gp import best_groups
from ..sampler import Stop, derived_seed
from . import refine
from .history import History

PROBABILITY = 0.05
FIRST = 6  # candidates of the last stage before the first look
EVERY = 3  # candidates of the last stage between looks, since each fits a process


def reason_to_stop(history: History, index: int) -> Stop | None:
    """Return why the search should end, or None while there may be something to gain."""
    best = history.best()
    told = sum(o.value is not None for o in history.of_stage(refine.NAME))
    if best is None or told < FIRST or not math.isfinite(best.resolution):
        return None
    groups = best_groups(history.groups, history.told, refine.GROUPS)
    threshold, axes = best.resolution, max((group.axes for group in groups), default=0)
    idle = candidates_since_gain(history, threshold)
    if 1 / (idle + 2) < PROBABILITY:
        return Stop(f"none of the last {idle} candidates gained more than {threshold:.4f}", axes)
    if told % EVERY or any(group.size > refine.MOST_FEATURES for group in groups):
        return None
    landscape = refine.landscape_of(history, groups, derived_seed(history.seed, "stop", index))
    chance = landscape.chance(threshold)
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

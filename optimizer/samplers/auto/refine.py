"""Stage `refine`: a Gaussian process around the best candidates so far, or CMA-ES if the best arm has many axes.

Of the two arms with the best candidates, a proposal is the point of the highest expected improvement. Every EXPLORE-th
proposal is a draw from the prior, so that no method is ruled out for good.
"""

from __future__ import annotations

import numpy as np

from ....search_spaces import Coordinates, Params
from ..cmaes import ask_arm
from ..gp import most_promising
from ..sampler import Proposal, derived_seed
from .history import History

NAME = "refine"
MOST_AXES = 15  # most axes of an arm for which a Gaussian process is used
ARMS = 2
EXPLORE = 8


def propose(history: History, index: int) -> Proposal:
    """Return the next candidate; never None, so that no worker is idle."""
    asked = sum(1 for _ in history.asked(NAME))
    arms = best_arms(history)
    seed = derived_seed(history.seed, "auto", NAME, index)
    if not arms or asked % EXPLORE == EXPLORE - 1:
        return Proposal(history.arms.draw(np.random.Generator(np.random.PCG64(seed))), NAME)
    pending = [proposal.params for proposal in history.pending if not proposal.probe]
    if len(arms[0].axes) > MOST_AXES:
        return Proposal(ask_arm(arms[0], history.of_stage(NAME), _start(history, arms[0]), seed), NAME)
    small = [arm for arm in arms if len(arm.axes) <= MOST_AXES]
    return Proposal(most_promising(small, history.told, pending, seed), NAME)


def best_arms(history: History) -> list[Coordinates]:
    """Return the arms of the best candidates that have axes and at least two different points."""
    ranked = sorted((o for o in history.scored if o.params), key=lambda o: (not o.complete, -(o.value or 0.0)))
    points: dict[Coordinates, set[tuple[float, ...]]] = {}
    for observation in ranked:
        if observation.params:
            arm = history.arms.of(observation.params)
            points.setdefault(arm, set()).add(tuple(arm.point(observation.params)))
    return [arm for arm, found in points.items() if arm.axes and len(found) > 1][:ARMS]


def _start(history: History, arm: Coordinates) -> Params:
    """Return the best point of an arm before this stage."""
    before = [o for o in history.scored if o.params and not o.of_stage(NAME) and arm.matches(o.params)]
    best = max(before or history.scored, key=lambda o: (o.complete, o.value or 0.0))
    return best.params

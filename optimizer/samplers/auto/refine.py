"""Stage `refine`: a Gaussian process around what is best so far, or CMA-ES where there are many numbers.

The two groups of arms with the best candidates compete by expected improvement. Every EXPLOIT-th proposal is the point
of the highest expected value, since scores of the best candidates are flattered by the choice; every EXPLORE-th is a
draw from the prior, so that no method is given up for good.
"""

from __future__ import annotations

import numpy as np

from ....search_spaces import Coordinates, Params
from ..cmaes import ask_arm
from ..gp import Landscape, best_groups
from ..landscape import Group
from ..sampler import Proposal, derived_seed
from .history import History, best_of

NAME = "refine"
MOST_FEATURES = 20  # up to which a Gaussian process is used
GROUPS = 2
EXPLORE, EXPLOIT = 8, 3


def propose(history: History, index: int) -> Proposal:
    """Return the next candidate; never None, so that no worker is without work."""
    asked = sum(1 for _ in history.asked(NAME))
    groups = best_groups(history.groups, history.told, GROUPS)
    seed = derived_seed(history.seed, "auto", NAME, index)
    if not groups or asked % EXPLORE == EXPLORE - 1:
        return Proposal(history.arms.draw(np.random.Generator(np.random.PCG64(seed))), NAME)
    if groups[0].size > MOST_FEATURES:
        arm = _best_arm(history, groups[0])
        return Proposal(ask_arm(arm, history.of_stage(NAME), _start(history, arm), seed), NAME)
    landscape = landscape_of(history, groups, seed)
    if asked % EXPLOIT == EXPLOIT - 1:
        return Proposal(landscape.best_expected(), NAME)
    return Proposal(landscape.most_promising(), NAME)


def landscape_of(history: History, groups: list[Group], seed: int) -> Landscape:
    """Return the processes of the groups that are small enough."""
    pending = [proposal.params for proposal in history.pending if not proposal.probe]
    small = [group for group in groups if group.size <= MOST_FEATURES]
    return Landscape(small, history.told, pending, seed)


def _best_arm(history: History, group: Group) -> Coordinates:
    best = best_of(o for o in history.scored if o.params and group.arm_of(o.params))
    assert best is not None, "Should not reach."
    return history.arms.of(best.params)


def _start(history: History, arm: Coordinates) -> Params:
    """Return the best point of an arm before this stage."""
    before = [o for o in history.scored if o.params and not o.of_stage(NAME) and arm.matches(o.params)]
    best = best_of(before or history.scored)
    assert best is not None, "Should not reach."
    return best.params

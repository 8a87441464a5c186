"""Stage `soup`: models added one at a time, best first, while the score improves (Wortsman et al. 2022, greedy soup).

All members of a soup have equal weights, whose total is that of the best candidate with equal weights so far. One
candidate per model shows whether the model helps. Paper: Model soups, arXiv:2203.05482; there the total is always 1.
"""

from __future__ import annotations

from ....search_spaces import METHOD
from ..sampler import Observation, Proposal
from .history import Arm, History, best_of
from .line import NAME as LINE

NAME = "soup"


def propose(history: History) -> Proposal | None:
    """Return the next soup; None when every model has been tried, or if a parent has no score to order them by."""
    arm = history.leading
    if arm is None or len(arm.models) < 3:  # two models together are on the line already
        return None
    order = history.parents_by_score(arm.models)
    if len(order) < len(arm.models):
        return None
    total = best_total(history, arm)
    tried = {_members(arm, o.proposal): o for o in history.of_stage(NAME)}
    pending = {_members(arm, p) for p in history.pending if p.stage == NAME}
    members, value = order[:1], history.parent_value(order[0])
    for model in order[1:]:
        with_it = frozenset((*members, model))
        if len(with_it) == len(arm.models):
            return None  # that is a point of the line
        if with_it in pending:
            return None
        if with_it not in tried:
            weights = [total / len(with_it) if name in with_it else 0.0 for name in arm.models]
            return Proposal(arm.params(weights), NAME)
        found = tried[with_it]
        if found.value is not None and found.violation == 0 and found.value > value:
            members, value = [*members, model], found.value
    return None


def best_total(history: History, arm: Arm) -> float:
    """Return the total weight of the best candidate with equal weights, baselines included; 1.5 if there is none."""
    equal = [o for o in history.scored if o.params and o.params[METHOD] == arm.method and _is_equal(arm, o)]
    best = best_of(equal)
    return 1.5 if best is None else sum(arm.weights(best.params))


def _is_equal(arm: Arm, observation: Observation) -> bool:
    weights = arm.weights(observation.params)
    return observation.proposal.stage in ("", LINE) and max(weights) - min(weights) < 1e-9 and min(weights) > 0


def _members(arm: Arm, proposal: Proposal) -> frozenset[str]:
    """Return the models whose weight is above 0."""
    return frozenset(model for model, w in zip(arm.models, arm.weights(proposal.params), strict=True) if w > 0)

"""Stage `line`: equal weights of several totals, since the total weight affects the score more than anything else."""

from __future__ import annotations

from ..sampler import Proposal
from .history import History

NAME = "line"
TOTALS = (1.5, 1.25, 1.75, 0.75, 2.5, 0.5)  # 1 and 2 are baselines; likely ones first, so that racing is short


def propose(history: History) -> Proposal | None:
    """Return equal weights of the next total; None when all totals have been proposed."""
    arm = history.leading
    if arm is None or len(arm.models) < 2:
        return None
    asked = {round(sum(arm.weights(proposal.params)), 6) for proposal in history.asked(NAME)}
    left = [total for total in TOTALS if total not in asked]
    if not left:
        return None
    return Proposal(arm.params([left[0] / len(arm.models)] * len(arm.models)), NAME)

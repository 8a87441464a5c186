"""Stage `descent`: steps to the lowest loss of the gold answers in all weights at once.

A merge of task vectors is linear in its weights, theta(w) = theta_0 + sum_k w_k m_k tau_k, so one backward pass gives
dL/dw_k = <dL/dtheta, m_k tau_k> for every model, knot and filter (as AdaMerging, Yang et al. 2023, arXiv:2310.02575,
and SuperMerge, arXiv:2412.10416, learn them). A probe costs three forward passes per item, whatever the number of
weights. Instead of one step per probe, a process is fitted to all of them (`loss_surface`), and the next probe is at
its lowest point, no farther than RADIUS from some probe per weight. The first probes are at the best merge and at the
best fine-tune, since good merges are often near either. Every probe sees other items.

The steps only propose: every ROUND probes end in a candidate, the lowest point, which the tasks' metrics score like all
others. If weights differ over depth or filters, the first rounds move each model as a whole and the later ones every
weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ....search_spaces import Params
from ..loss_surface import LossSurface, Probes
from ..sampler import Observation, Proposal
from . import survey
from .history import Arm, History, best_of, group_means

NAME, IN_DEPTH = "descent", "descent in depth"  # models as a whole, then every weight
ROUND = 5  # probes between candidates
MOST_ROUNDS = 3
RADIUS = 0.35  # of a step, per weight
LEAST_MOVE = 0.02  # a candidate whose weights all differ by less from those of the one before is the same
DECIMALS = 4  # of weights: the last bits of a minimum differ between machines


def propose(history: History) -> Proposal | None:
    """Return the next step or candidate that moves models as a whole; None if this stage has nothing to propose now."""
    if (arm := history.leading) is None or not survey.trusted(history):
        return None
    return Descent(history, arm, NAME, arm.groups, _starts(history, arm)).propose()


def propose_in_depth(history: History) -> Proposal | None:
    """Return the next step or candidate that moves every weight; None if this stage has nothing to propose now."""
    if (arm := history.leading) is None or not survey.trusted(history):
        return None
    if all(len(names) == 1 for names in arm.groups) or history.waiting(NAME) or propose(history) is not None:
        return None
    return Descent(history, arm, IN_DEPTH, [[name] for names in arm.groups for name in names], []).propose()


@dataclass(frozen=True)
class Descent:
    """Steps in groups of weights; the weights of a group move by the same amount.

    Attributes:
        starts: the points of the first probes; without any, the stage goes on from the probes of the stage before.
    """

    history: History
    arm: Arm
    stage: str
    groups: Sequence[Sequence[str]]
    starts: Sequence[Params]

    def propose(self) -> Proposal | None:
        """Return the next step or candidate; None while one is pending, and at the end."""
        if self._base is None or self.history.waiting(self.stage) or self._ended:
            return None
        if len(self._steps) < len(self.starts):
            return self._probe(self.starts[len(self._steps)])
        lowest = self.history.once((self.stage, len(self._steps)), self._lowest)
        if len(self._steps) == ROUND * (len(self._candidates) + 1):
            return None if self._is_known(lowest) else Proposal(lowest, self.stage)
        return self._probe(lowest)

    @cached_property
    def _steps(self) -> list[Observation]:
        return [o for o in self.history.of_stage(self.stage) if o.probe]

    @cached_property
    def _candidates(self) -> list[Observation]:
        return [o for o in self.history.of_stage(self.stage) if not o.probe]

    @property
    def _ended(self) -> bool:
        """Whether a probe has failed, all rounds are over, or the last one ended in a worse candidate.

        The first round never ends the stage: its process knows too little yet.
        """
        failed = any(o.slopes is None or not o.slopes.by_dimension for o in self._steps)
        if failed or len(self._candidates) >= MOST_ROUNDS:
            return True
        if len(self._candidates) < 2:
            return False
        *earlier, last = self._candidates
        before = self.history.best_before(self.stage)
        level = max(o.feasible_value for o in [*earlier, *([before] if before else [])])
        return last.feasible_value < level - (last.stderr if np.isfinite(last.stderr) else 0.0)

    @property
    def _base(self) -> Params | None:
        """The point whose other parameters, and differences within groups, every step keeps."""
        first = next(iter(self.history.asked(self.stage)), None)
        if first is not None:
            return first.params
        best = self.history.best_before(self.stage)
        return None if best is None else self.arm.as_params(best)

    def _probe(self, params: Params) -> Proposal:
        return Proposal(params, self.stage, probe="gradient", offset=sum(1 for _ in self._gradients()))

    def _gradients(self) -> Iterator[Observation]:
        """Yield the probes that the process is fitted to."""
        stages = (self.stage,) if self.starts else (NAME, self.stage)
        for o in self.history.told:
            if o.proposal.stage in stages and o.slopes is not None and o.slopes.by_dimension:
                yield o

    def _lowest(self) -> Params:
        """Return the point of the lowest expected loss."""
        base = self._base
        assert base is not None, "Should not reach."
        low = np.array([min(self.arm.ranges[name][0] for name in names) for names in self.groups])
        high = np.array([max(self.arm.ranges[name][1] for name in names) for names in self.groups])
        moves = LossSurface(self._probes()).minimum(low, high, RADIUS) - self._place(base)
        moved = {n: float(base[n]) + float(m) for names, m in zip(self.groups, moves, strict=True) for n in names}
        return {**base, **{n: round(float(w), DECIMALS) for n, w in self.arm.clipped(moved).items()}}

    def _probes(self) -> Probes:
        found = [(o, o.slopes) for o in self._gradients() if o.slopes is not None]
        return Probes(
            points=np.array([self._place(o.params) for o, _ in found]),
            losses=np.array([s.loss for _, s in found]),
            loss_errors=np.array([s.stderr for _, s in found]),
            slopes=np.array([[sum(s.by_dimension.get(n, 0.0) for n in g) for g in self.groups] for _, s in found]),
            slope_errors=np.array([[sum(s.errors.get(n, 0.0) for n in g) for g in self.groups] for _, s in found]),
        )

    def _place(self, params: Params) -> np.ndarray:
        """Return the mean weight of every group at a point."""
        return np.array(group_means(params, self.groups))

    def _is_known(self, params: Params) -> bool:
        """Whether the last candidate of this stage has nearly these weights."""
        if not self._candidates:
            return False
        gaps = self._place(params) - self._place(self._candidates[-1].params)
        return bool(np.abs(gaps).max() < LEAST_MOVE)


def _starts(history: History, arm: Arm) -> list[Params]:
    """Return the best merge and the best fine-tune from before the stage, the better one first."""
    before = [o for o in history.before(NAME) if arm.as_params(o) is not None]
    merge, fine_tune = best_of(o for o in before if o.params), best_of(o for o in before if not o.params)
    best = sorted((o for o in (merge, fine_tune) if o is not None), key=lambda o: -(o.value or 0.0))
    return [params for o in best if (params := arm.as_params(o)) is not None]

"""What a sampler is: something whose next proposal depends on nothing but its observations so far."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...search_spaces import Params
from ..proposal import Proposal, Slopes, Stop


@dataclass(frozen=True)
class Observation:
    """A finished candidate, or a finished probe.

    Attributes:
        proposal: what was asked for; of a baseline, its point alone.
        value: maximized; None for a candidate that failed and for a probe. The value of a dropped candidate is shrunk
            towards the incumbent's.
        violations: by how much each limit is passed, at most 0 allowed.
        warm_start: whether it is a baseline, `name` then.
        complete: whether it was scored on all items.
        estimate: the value without shrinkage, NaN if there is none.
        stderr: the standard error of the difference from the incumbent.
        resolution: the smallest difference that the select items can be expected to show.
    """

    proposal: Proposal
    value: float | None
    violations: Mapping[str, float] = field(default_factory=dict)
    warm_start: bool = False
    name: str = ""
    complete: bool = True
    estimate: float = math.nan
    stderr: float = math.nan
    resolution: float = math.nan
    slopes: Slopes | None = None

    @property
    def params(self) -> Params:
        """The point; empty for a baseline outside the space."""
        return self.proposal.params

    @property
    def violation(self) -> float:
        """The sum of what is over the limits; 0 for a feasible candidate."""
        return sum(max(0.0, excess) for excess in self.violations.values())

    @property
    def feasible_value(self) -> float:
        """The value of a candidate that keeps within all limits; else -inf."""
        return -math.inf if self.value is None or self.violation > 0 or self.probe else self.value

    @property
    def probe(self) -> bool:
        """Whether this is a probe."""
        return bool(self.proposal.probe)

    def of_stage(self, stage: str) -> bool:
        """Whether it was asked for by a stage."""
        return self.proposal.stage == stage


class Sampler(Protocol):
    """Proposes points of a search space.

    The law: the answer of `ask(index, pending)` depends only on the space, the run's seed, `index`, the observations
    so far in their order, and the pending proposals. So a resumed run, which passes its recorded observations to a new
    sampler, is the same run. No state is pickled.
    """

    def tell(self, observation: Observation) -> None:
        """Add a finished candidate or probe."""
        ...

    def ask(self, index: int, pending: Sequence[Proposal]) -> Proposal | Stop:
        """Return the `index`-th proposal of the run; `pending` are proposals that are not finished yet."""
        ...


def derived_seed(seed: int, *parts: object) -> int:
    """Return a 32-bit seed for one purpose, from the run's seed."""
    text = "\0".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")

"""The interface of samplers, and the observations that they receive."""

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
        proposal: the proposal; for a baseline, its point without a stage.
        value: maximized; None for a candidate that failed and for a probe. The value of a dropped candidate is shrunk
            towards the incumbent's.
        violations: limit -> how far the candidate is beyond it; 0 or less if it keeps within the limit.
        warm_start: whether it is a baseline.
        name: the name of the baseline; else empty.
        complete: whether the candidate was scored on all items.
        estimate: the value without shrinkage; NaN if there is none.
        stderr: the standard error of the difference from the incumbent.
        resolution: the smallest difference that the select items can be expected to detect.
        slopes: the result of a probe; None for a candidate, and for a probe that failed.
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
        """The sum of all violations; 0 for a candidate that keeps within all limits."""
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
        """Return whether this stage made the proposal."""
        return self.proposal.stage == stage


class Sampler(Protocol):
    """Proposes points of a search space.

    Rule: the result of `ask(index, pending)` depends only on the space, the run's seed, `index`, the observations so
    far in their order, and the pending proposals. A resumed run passes its recorded observations to a new sampler and
    so continues exactly as if it had not been interrupted; no state is pickled.
    """

    def tell(self, observation: Observation) -> None:
        """Add a finished candidate or probe."""
        ...

    def ask(self, index: int, pending: Sequence[Proposal]) -> Proposal | Stop:
        """Return the `index`-th proposal of the run, or `Stop` to end it; `pending` are unfinished proposals."""
        ...


def derived_seed(seed: int, *parts: object) -> int:
    """Return a 32-bit seed for one purpose, from the run's seed."""
    text = "\0".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")

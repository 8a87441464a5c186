"""The interface of samplers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...search_spaces import Params


@dataclass(frozen=True)
class Observation:
    """A finished candidate, as reported to a sampler.

    Attributes:
        params: the candidate's point in the search space.
        value: the objective, which is maximized; None for a failed candidate.
        violations: limit -> by how much it is exceeded; the candidate is feasible if all are at most 0.
        warm_start: whether it is a baseline and not a proposal of the sampler.
    """

    params: Params
    value: float | None
    violations: Mapping[str, float] = field(default_factory=dict)
    warm_start: bool = False

    @property
    def violation(self) -> float:
        """The sum of the positive violations; 0 for a feasible candidate."""
        return sum(max(0.0, excess) for excess in self.violations.values())


class Sampler(Protocol):
    """Proposes points of a search space.

    The result of `ask(index, pending)` must depend only on the space, the run's seed, `index`, the observations so far
    in their order, and the pending points. A resumed run reports its recorded observations to a new sampler and
    continues as if it had not been interrupted. No state is pickled.
    """

    def tell(self, observation: Observation) -> None:
        """Add a finished candidate."""
        ...

    def ask(self, index: int, pending: Sequence[Params]) -> Params:
        """Return proposal number `index` of the run; `pending` are the proposals that have not finished."""
        ...


def derived_seed(seed: int, *parts: object) -> int:
    """Return a 32-bit seed derived from the run's seed and the parts that name its purpose."""
    text = "\0".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")

"""What a sampler is: something whose next proposal depends on nothing but what it was told."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...search_spaces import Params


@dataclass(frozen=True)
class Observation:
    """A finished candidate as a sampler hears of it.

    `value` is maximized; None for a failed one. `violations`: by how much each limit is passed, at most 0 allowed.
    """

    params: Params
    value: float | None
    violations: Mapping[str, float] = field(default_factory=dict)
    warm_start: bool = False

    @property
    def violation(self) -> float:
        """The sum of what is over the limits; 0 for a feasible candidate."""
        return sum(max(0.0, excess) for excess in self.violations.values())


class Sampler(Protocol):
    """Proposes points of a search space.

    The law: the answer of `ask(index, pending)` depends only on the space, the run's seed, `index`, the observations
    told so far in their order, and the pending points. So a resumed run, which tells its recorded observations to a
    new sampler, is the same run. No state is pickled.
    """

    def tell(self, observation: Observation) -> None:
        """Take in a finished candidate."""
        ...

    def ask(self, index: int, pending: Sequence[Params]) -> Params:
        """The `index`-th proposal of the run; `pending` are proposals that are not finished yet."""
        ...


def derived_seed(seed: int, *parts: object) -> int:
    """A 32-bit seed for one purpose, from the run's seed."""
    text = "\0".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")

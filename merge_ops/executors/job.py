"""One tensor to merge, in the form in which executors receive it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch

from ..methods import AddDelta, Custom, LinearCombination, Plan

T = TypeVar("T")


@dataclass(frozen=True)
class TensorJob:
    """A plan, its inputs, and the tensor that receives the result.

    * `inputs`: floating tensors of one shape, already in the dtypes in which the recipe merges them.
    * `out`: a tensor of that shape; the result is rounded to its dtype.
    * `base`: the index of the base among the inputs, or None.
    * `seed`, `name`: the recipe's seed and the output tensor's checkpoint name, which determine random masks.
    * `remember(indices, key, make)`: returns the cached `make()` for a key; for values that depend only on the inputs
      of these indices.
    * `repeated`: whether more jobs with these inputs will follow, so that statistics that do not depend on parameter
      values are worth caching.
    * `temporary_bytes`: the size of the tensors that exist for this job alone.
    """

    plan: Plan
    inputs: tuple[torch.Tensor, ...]
    out: torch.Tensor
    base: int | None
    seed: int
    name: str
    remember: Callable[[tuple[int, ...], Hashable, Callable[[], Any]], Any]
    repeated: bool = True
    temporary_bytes: int = 0

    @property
    def sources(self) -> tuple[int, ...]:
        """The indices of the inputs that are not the base, in order."""
        return tuple(i for i in range(len(self.inputs)) if i != self.base)

    @cached_property
    def base_and_sources(self) -> tuple[torch.Tensor, ...]:
        """The base, then the sources.

        Raises:
            ValueError: the job has no base.
        """
        if self.base is None:
            raise ValueError(f"'{self.name}': a task vector needs a base")
        return (self.inputs[self.base], *(self.inputs[i] for i in self.sources))

    @cached_property
    def terms(self) -> tuple[tuple[torch.Tensor, ...], tuple[float, ...]]:
        """The tensors that a linear plan adds up, and their coefficients; inputs with coefficient 0 are left out."""
        if isinstance(self.plan, AddDelta):
            return (self.plan.delta, self.base_and_sources[0]), (self.plan.scale, 1.0)
        assert isinstance(self.plan, LinearCombination), "Should not reach."
        nonzero = [(x, c) for x, c in zip(self.inputs, self.plan.coefficients, strict=True) if c != 0.0]
        return tuple(x for x, _ in nonzero), tuple(c for _, c in nonzero)

    @property
    def method_values(self) -> tuple[float, ...]:
        """The parameter values of a `Custom` plan, in the order in which its kernel expects them."""
        assert isinstance(self.plan, Custom), "Should not reach."
        return self.plan.values

    def remember_all(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the cached `make()` for a key; for values that depend on all inputs and on no parameter value."""
        return self.remember((self.base or 0, *self.sources), key, make)

    def remember_last(self, key: Hashable, value: float, make: Callable[[], T]) -> T:
        """As `remember_all`, for results that also depend on one parameter value: only the newest value's is kept."""
        cached: dict[float, T] = self.remember_all(key, dict)
        if value not in cached:
            result = make()
            cached.clear()
            cached[value] = result
        return cached[value]


def grouped(
    jobs: Sequence[TensorJob], key: Callable[[TensorJob], tuple[Any, ...]]
) -> dict[tuple[Any, ...], list[TensorJob]]:
    """Return the jobs by key, in order; jobs with one key can share a kernel launch."""
    groups: dict[tuple[Any, ...], list[TensorJob]] = {}
    for job in jobs:
        groups.setdefault(key(job), []).append(job)
    return groups

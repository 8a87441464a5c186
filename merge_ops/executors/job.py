"""One tensor to merge, as executors get it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from ..methods import AddDelta, LinearCombination, Plan


@dataclass(frozen=True)
class TensorJob:
    """A plan, its inputs and where the result goes.

    `inputs` are equally shaped floating tensors, in the dtypes in which they count; `out` has their shape, and the
    result is rounded to its dtype. `base` is the base's place among the inputs. `seed` and `name`, the output tensor's
    checkpoint name, choose random masks. `remember(places, key, make)` keeps what follows from the inputs at these
    places alone. `repeated` says that more works will have these inputs, so that counts which serve any numbers are
    worth their time. `made` is how many bytes of tensors the work holds that nobody else needs.
    """

    plan: Plan
    inputs: tuple[torch.Tensor, ...]
    out: torch.Tensor
    base: int | None
    seed: int
    name: str
    remember: Callable[[tuple[int, ...], Hashable, Callable[[], Any]], Any]
    repeated: bool = True
    made: int = 0

    @property
    def sources(self) -> tuple[int, ...]:
        """The places of the inputs that are not the base, in order."""
        return tuple(i for i in range(len(self.inputs)) if i != self.base)

    @cached_property
    def based(self) -> tuple[torch.Tensor, ...]:
        """The base, then the sources."""
        if self.base is None:
            raise ValueError(f"'{self.name}': a task vector needs a base")
        return (self.inputs[self.base], *(self.inputs[i] for i in self.sources))

    @cached_property
    def terms(self) -> tuple[tuple[torch.Tensor, ...], tuple[float, ...]]:
        """The tensors that a linear plan adds up, and their coefficients; those of coefficient 0 are left out."""
        if isinstance(self.plan, AddDelta):
            return (self.plan.delta, self.based[0]), (self.plan.scale, 1.0)
        assert isinstance(self.plan, LinearCombination), "Should not reach."
        counted = [(x, c) for x, c in zip(self.inputs, self.plan.coefficients, strict=True) if c != 0.0]
        return tuple(x for x, _ in counted), tuple(c for _, c in counted)

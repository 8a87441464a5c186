"""Statistics of the inputs of one output tensor (inner products, merged task vectors) that merge methods plan with."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np
import torch

from ..executors.dispatch import gram_matrix
from ..numerics.reductions import vector_gram

Value = TypeVar("Value")
Remember = Callable[[Hashable, Callable[[], Value]], Value]
Derive = Callable[[Sequence[torch.Tensor]], torch.Tensor]


def compute_anew(_key: Hashable, compute: Callable[[], Value]) -> Value:
    """Call `compute`: a `remember` without a cache."""
    return compute()


class InputStatistics:
    """Statistics of equally shaped tensors, computed on demand.

    `load` returns the tensors, with the base at index `base`. `remember(key, compute)` returns the result of `compute`,
    which it may cache by key; `remember_tensor` does so for results as large as an input.
    """

    def __init__(
        self,
        load: Callable[[], Sequence[torch.Tensor]],
        base: int | None,
        *,
        remember: Remember[np.ndarray] = compute_anew,
        remember_tensor: Remember[torch.Tensor] = compute_anew,
    ) -> None:
        self._load, self._base = load, base
        self._remember, self._remember_tensor = remember, remember_tensor

    def gram(self) -> np.ndarray:
        """Return inner products of the N flattened inputs, (N, N) float64."""
        return self._remember(("gram",), lambda: gram_matrix(self._load()))

    def delta_gram(self) -> np.ndarray:
        """Return inner products of the M flattened task vectors, (M, M) float64."""
        return self._remember(("delta_gram", self._base), lambda: gram_matrix(*self._split()))

    def vector_gram(self, dim: int, *, deltas: bool) -> np.ndarray:
        """Return inner products of the inputs' (or task vectors') vectors along `dim`; see `reductions.vector_gram`."""

        def compute() -> np.ndarray:
            others, base = self._split() if deltas else (self._load(), None)
            return vector_gram(others, dim, base)

        return self._remember(("vector_gram", dim, self._base if deltas else None), compute)

    def merged_delta(self, derive: Derive) -> torch.Tensor:
        """Return `derive(task vectors)`, a tensor that does not depend on any method parameter.

        The task vectors are in the promoted dtype of the inputs, float32 at least.
        """

        def compute() -> torch.Tensor:
            others, base = self._split()
            dtype = torch.promote_types(torch.float32, _promoted([base, *others]))
            return derive([x.to(dtype) - base.to(dtype) for x in others])

        name = f"{getattr(derive, '__module__', '')}.{getattr(derive, '__qualname__', repr(derive))}"
        return self._remember_tensor((name, self._base), compute)

    def _split(self) -> tuple[list[torch.Tensor], torch.Tensor]:
        tensors = self._load()
        if self._base is None:
            raise ValueError("task vectors need a base")
        return [x for i, x in enumerate(tensors) if i != self._base], tensors[self._base]


def _promoted(tensors: Sequence[torch.Tensor]) -> torch.dtype:
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype

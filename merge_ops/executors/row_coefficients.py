"""The memory layout of a `RowCombination`'s coefficients, as kernels index them."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from ..methods import RowCombination


class RowLayout(NamedTuple):
    """Element e of a contiguous tensor has coefficient e // inner % period."""

    inner: int  # consecutive elements that share a coefficient
    period: int  # coefficients per input


def row_layout(plan: RowCombination, shape: tuple[int, ...]) -> RowLayout | None:
    """Return the layout, or None unless the coefficients vary along one run of adjacent dimensions."""
    lengths = plan.coefficients[0].shape
    if len(lengths) != len(shape) or any(a not in (1, b) for a, b in zip(lengths, shape, strict=True)):
        return None
    varying = [i for i, length in enumerate(lengths) if length > 1]
    if not varying:
        return RowLayout(prod(shape), 1)
    first, last = varying[0], varying[-1]
    if any(lengths[i] != shape[i] for i in range(first, last + 1)):
        return None
    return RowLayout(prod(shape[last + 1 :]), prod(lengths))


def coefficient_table(plan: RowCombination) -> np.ndarray:
    """Return the coefficients of all inputs, (inputs, period) float32."""
    return np.stack([np.asarray(c, np.float64).reshape(-1) for c in plan.coefficients]).astype(np.float32)

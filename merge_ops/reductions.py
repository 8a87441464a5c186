"""Sums whose bits depend on nothing but the numbers: fixed chunks, a fixed tree, float64.

A library's own `sum` may split its work by thread count or vector width. Halving a chunk by elementwise additions has
one order everywhere, on CPU and GPU; the few chunk sums are then added exactly (`math.fsum`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

CHUNK = 1 << 18  # elements; a power of two


def _tree(values: torch.Tensor) -> float:
    """Sum of a 1-D float64 tensor of at most CHUNK elements."""
    size = 1 << max(0, (values.numel() - 1).bit_length())
    if values.numel() < size:
        values = torch.nn.functional.pad(values, (0, size - values.numel()))
    while size > 1:
        size //= 2
        values = values[:size] + values[size:]
    return float(values)


def chunked_sum(tensors: Sequence[torch.Tensor], term: Callable[..., torch.Tensor]) -> float:
    """Sum over all elements of `term(*tensors)`; `term` is elementwise and gets float64 chunks, each 1-D."""
    flat = [tensor.reshape(-1) for tensor in tensors]
    starts = range(0, flat[0].numel(), CHUNK)
    sums = [_tree(term(*(t[start : start + CHUNK].double() for t in flat))) for start in starts]
    try:
        return math.fsum(sums)
    except (ValueError, OverflowError):  # infinities of both signs, or a sum beyond float64
        return math.nan


def l1_norm(tensor: torch.Tensor) -> float:
    """Sum of magnitudes."""
    return chunked_sum([tensor], torch.abs)


def gram_matrix(tensors: Sequence[torch.Tensor]) -> np.ndarray:
    """Inner products of the flattened tensors, (N, N) float64."""
    size = len(tensors)
    gram = np.empty((size, size))
    for i in range(size):
        for j in range(i, size):
            gram[i, j] = gram[j, i] = chunked_sum([tensors[i], tensors[j]], torch.mul)
    return gram

"""Sums whose bits depend on nothing but the numbers: fixed chunks, a fixed tree, float64.

A library's own `sum` may split its work by thread count or vector width. Halving a chunk by elementwise additions has
one order everywhere, on CPU and GPU; the few chunk sums are then added exactly (`math.fsum`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

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


def gram_matrix(tensors: Sequence[torch.Tensor], base: torch.Tensor | None = None) -> np.ndarray:
    """Inner products of the flattened tensors, or of their differences to `base`, (N, N) float64.

    Differences are taken in float64: of nearly equal tensors little would be left of differences of inner products.
    """
    size = len(tensors)
    gram = np.empty((size, size))
    for i in range(size):
        for j in range(i, size):
            if base is None:
                gram[i, j] = gram[j, i] = chunked_sum([tensors[i], tensors[j]], torch.mul)
            else:
                gram[i, j] = gram[j, i] = chunked_sum([tensors[i], tensors[j], base], _product_of_differences)
    return gram


def _product_of_differences(first: torch.Tensor, second: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    return (first - base) * (second - base)


def vector_gram(tensors: Sequence[torch.Tensor], dim: int, base: torch.Tensor | None = None) -> np.ndarray:
    """Inner products of the vectors along one dimension, (N, N, ...) float64; that dimension stays, with size 1.

    With `base` those of the differences to it. A tensor without dimensions gives (N, N).
    """
    scalar = tensors[0].dim() == 0
    everything = [t.reshape(1) if scalar else t.movedim(dim, -1) for t in (*tensors, *([] if base is None else [base]))]
    length = everything[0].shape[-1]
    count = everything[0].numel() // length if length else math.prod(everything[0].shape[:-1])
    rows = [t.reshape(count, length) for t in everything]
    size, step = len(tensors), max(1, CHUNK // max(1, length))
    gram = np.zeros((size, size, count))
    for start in range(0, count if length else 0, step):
        part = [r[start : start + step].double() for r in rows]
        vectors = part if base is None else [x - part[-1] for x in part[:-1]]
        for i in range(size):
            for j in range(i, size):
                sums = row_sums(vectors[i] * vectors[j]).cpu().numpy()
                gram[i, j, start : start + step] = gram[j, i, start : start + step] = sums
    if scalar:
        return gram[..., 0]
    return np.moveaxis(gram.reshape(size, size, *everything[0].shape[:-1], 1), -1, 2 + dim if dim >= 0 else dim)


def row_sums(rows: torch.Tensor) -> torch.Tensor:
    """Sums along the last dimension, by the fixed tree."""
    size = 1 << max(0, (rows.shape[-1] - 1).bit_length())
    values = torch.nn.functional.pad(rows, (0, size - rows.shape[-1]))
    while size > 1:
        size //= 2
        values = values[..., :size] + values[..., size:]
    return values[..., 0]


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, matrix products and decompositions run on one thread: BLAS and LAPACK split sums by thread count."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

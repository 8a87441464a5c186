"""Reproducible float64 sums: fixed chunks, added up in a fixed binary tree.

A library's `sum` may split a tensor by thread count or vector width, which changes the rounding. Halving a chunk by
elementwise additions has the same order on every CPU and GPU; the few chunk sums are then added exactly (`math.fsum`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from .lazy_torch import torch

CHUNK = 1 << 18  # elements; a power of two
ROWS = 64  # chunks summed at a time on devices other than the CPU
FIXED_BITS = 28  # bits of the largest magnitude in fixed-point sums of magnitudes
INFINITE = 1 << 30  # replaces the exponent if a magnitude is infinite or NaN
NO_NORM = 1e-7  # L1 norms below this are not rescaled


def chunked_sum(tensors: Sequence[torch.Tensor], term: Callable[..., torch.Tensor]) -> float:
    """Return the sum over all elements of `term(*tensors)`.

    `term` is elementwise and is called with float64 rows of one chunk each. The chunk sums are copied from the device
    together.
    """
    flat = [tensor.reshape(-1) for tensor in tensors]
    size, rows = flat[0].numel(), 1 if flat[0].device.type == "cpu" else ROWS  # one chunk fits a CPU cache
    whole = size // CHUNK * CHUNK
    pieces = [(start, min(whole, start + rows * CHUNK)) for start in range(0, whole, rows * CHUNK)]
    sums = [row_sums(term(*(t[i:j].view(-1, CHUNK).double() for t in flat))) for i, j in pieces]
    if whole < size:
        sums.append(row_sums(term(*(t[whole:].double() for t in flat))[None]))
    return sum_of_chunks(torch.cat(sums).tolist() if sums else [])


def sum_of_chunks(sums: Sequence[float]) -> float:
    """Return the exact sum, rounded once; NaN for infinities of both signs or if the sum exceeds float64."""
    try:
        return math.fsum(sums)
    except (ValueError, OverflowError):
        return math.nan


def fixed_exponent(largest: float) -> int:
    """Return the exponent s for which the integers floor(2**s |x|) are below 2**FIXED_BITS for all |x| <= `largest`.

    Return INFINITE if `largest` is infinite or NaN.
    """
    if not math.isfinite(largest):
        return INFINITE
    return min(127, FIXED_BITS - math.frexp(largest)[1])


def fixed_sum(tensor: torch.Tensor, exponent: int) -> int:
    """Return the sum of floor(2**exponent |x|) over all elements; integer sums do not depend on their order."""
    flat = tensor.reshape(-1)
    step = CHUNK if flat.device.type == "cpu" else ROWS * CHUNK
    parts = (flat[start : start + step].double().abs() for start in range(0, flat.numel(), step))
    return int(sum((part * 2.0**exponent).to(torch.int64).sum() for part in parts))


def l1_ratio(before: int, after: int, exponent: int) -> float:
    """Return the factor `before / after` that restores the L1 norm of masked elements; 1 if a norm is nearly 0."""
    if min(before, after) < NO_NORM * 2.0**exponent:
        return 1.0
    return before / after


def gram_matrix(tensors: Sequence[torch.Tensor], base: torch.Tensor | None = None) -> np.ndarray:
    """Return inner products of the flattened tensors, or of their differences to `base`, (N, N) float64.

    Differences are taken elementwise in float64: for nearly equal tensors, subtracting inner products would cancel.
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
    """Return inner products of the vectors along dimension `dim`, (N, N, ...) float64, where `dim` keeps size 1.

    With `base`, the vectors are those of the differences to it. Tensors without dimensions give (N, N).
    """
    scalar = tensors[0].dim() == 0
    everything = [t.reshape(1) if scalar else t.movedim(dim, -1) for t in (*tensors, *([] if base is None else [base]))]
    length = everything[0].shape[-1]
    count = everything[0].numel() // length if length else math.prod(everything[0].shape[:-1])
    rows = [t.reshape(count, length) for t in everything]
    size, step = len(tensors), max(1, CHUNK // max(1, length))
    on_device = torch.zeros((size, size, count), dtype=torch.float64, device=tensors[0].device)
    for start in range(0, count if length else 0, step):
        part = [r[start : start + step].double() for r in rows]
        vectors = part if base is None else [x - part[-1] for x in part[:-1]]
        for i in range(size):
            for j in range(i, size):
                on_device[i, j, start : start + step] = row_sums(vectors[i] * vectors[j])
    gram = on_device.cpu().numpy()
    for i in range(size):
        gram[i + 1 :, i] = gram[i, i + 1 :]
    if scalar:
        return gram[..., 0]
    return np.moveaxis(gram.reshape(size, size, *everything[0].shape[:-1], 1), -1, 2 + dim if dim >= 0 else dim)


def row_sums(rows: torch.Tensor) -> torch.Tensor:
    """Return sums along the last dimension, added up in the fixed binary tree."""
    size = 1 << max(0, (rows.shape[-1] - 1).bit_length())
    values = torch.nn.functional.pad(rows, (0, size - rows.shape[-1]))
    while size > 1:
        size //= 2
        values = values[..., :size] + values[..., size:]
    return values[..., 0]


@contextmanager
def one_thread() -> Iterator[None]:
    """Run matrix products and decompositions on one thread: BLAS and LAPACK split sums by the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

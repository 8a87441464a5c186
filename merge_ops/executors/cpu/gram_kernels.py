"""Kernels of the sums in `reductions.py`.

The float64 terms of a chunk are added up in a fixed binary tree: the second half is added to the first until one term
is left. Missing terms up to the next power of two are zeros.
"""

from __future__ import annotations

import numpy as np

from .load_store import STRIP, compiled, decode


@compiled
def halved(terms, n):
    """Return the sum of the first n float64 in `terms` (2 n,), which is overwritten."""
    size = 1
    while size < n:
        size *= 2
    terms[n:size] = 0.0
    while size > 1:
        size //= 2
        _fold(terms, size)
    return terms[0]


@compiled
def _fold(terms, size):
    for e in range(size):
        terms[e] += terms[e + size]


@compiled
def _multiply(one, other, n, terms):
    for e in range(n):
        terms[e] = np.float64(one[e]) * np.float64(other[e])


@compiled
def _multiply_differences(one, other, base, n, terms):
    for e in range(n):
        b = np.float64(base[e])
        terms[e] = (np.float64(one[e]) - b) * (np.float64(other[e]) - b)


@compiled
def products(chunks, first, last, inputs, codes, i, j, base_index, sums):
    """Write the inner product of two tensors over each chunk to `sums` (C,) float64.

    That is the sum of x_i x_j, or of (x_i - base) (x_j - base) if `base_index` is not -1. `inputs` and `codes` (N,)
    int64 are the addresses and dtype codes of all tensors.
    """
    one, other, base = np.empty(STRIP, np.float32), np.empty(STRIP, np.float32), np.empty(STRIP, np.float32)
    size = np.int64(0)
    for chunk in range(first, last):
        size = max(size, chunks[chunk, 2] - chunks[chunk, 1])
    terms = np.empty(max(1, 2 * size), np.float64)
    for chunk in range(first, last):
        begin, stop = chunks[chunk, 1], chunks[chunk, 2]
        for start in range(begin, stop, STRIP):
            n = min(STRIP, stop - start)
            decode(inputs[i], codes[i], start, n, one)
            decode(inputs[j], codes[j], start, n, other)
            if base_index >= 0:
                decode(inputs[base_index], codes[base_index], start, n, base)
                _multiply_differences(one, other, base, n, terms[start - begin :])
            else:
                _multiply(one, other, n, terms[start - begin :])
        sums[chunk] = halved(terms, stop - begin)

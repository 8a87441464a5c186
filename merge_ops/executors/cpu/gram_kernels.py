"""Kernels of the sums of `reductions.py`: chunks of float64 terms, halved until one is left."""

from __future__ import annotations

import numpy as np

from .load_store import STRIP, compiled, decode


@compiled
def halved(terms, n):
    """The sum of n float64; twice as many are overwritten."""
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
        own = np.float64(base[e])
        terms[e] = (np.float64(one[e]) - own) * (np.float64(other[e]) - own)


@compiled
def products(chunks, first, last, inputs, codes, i, j, base_place, sums):
    """Per chunk, in `sums` float64: sum of x_i x_j, or with base_place >= 0 of (x_i - base)(x_j - base)."""
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
            if base_place >= 0:
                decode(inputs[base_place], codes[base_place], start, n, base)
                _multiply_differences(one, other, base, n, terms[start - begin :])
            else:
                _multiply(one, other, n, terms[start - begin :])
        sums[chunk] = halved(terms, stop - begin)

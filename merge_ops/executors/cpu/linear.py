"""Kernels of linear combinations: out = sum_k c_k x_k, with one coefficient per tensor, or one per row or column.

Each product is rounded to float32 and added in order. The first product starts the sum: starting from 0 would turn a
sum of -0 into +0.
"""

from __future__ import annotations

import numpy as np

from .load_store import DIRECT, STRIP, compiled, decode, element, encode, filled, opened, put


@compiled
def _scaled(values, c, n, total):
    for e in range(n):
        total[e] = values[e] * c


@compiled
def _add_scaled(values, c, n, total):
    for e in range(n):
        total[e] += values[e] * c


@compiled
def _vector_scaled(values, c, n, total):
    for e in range(n):
        total[e] = values[e] * c[e]


@compiled
def _add_vector_scaled(values, c, n, total):
    for e in range(n):
        total[e] += values[e] * c[e]


@compiled
def _weighted_sum(access, x, n, coefficient, out):
    for e in range(n):
        total = np.float32(0)
        for k in range(len(x)):
            term = np.float32(element(access, x[k], e) * coefficient[k])
            total = term if k == 0 else np.float32(total + term)  # a sum that starts with -0 can stay -0
        put(access, total, out, e)


@compiled
def combine(chunks, first, last, outs, inputs, coefficients, zeros, like):
    """Merge chunks [first, last) of (tensor, start, stop) of T bfloat16 tensors with K inputs each.

    `outs` (T,) and `inputs` (T, K) int64 are addresses, `coefficients` (T, K) float32. The types of `zeros`, a tuple of
    K float32, and `like`, one of K int64, specialize the kernel on K.
    """
    none = np.empty((0, 0), np.float32)
    for chunk in range(first, last):
        t, start, n = chunks[chunk, 0], chunks[chunk, 1], chunks[chunk, 2] - chunks[chunk, 1]
        x = opened(DIRECT, like, inputs[t], inputs[t], start, n, none)
        _weighted_sum(DIRECT, x, n, filled(zeros, coefficients[t]), outs[t] + 2 * start)


@compiled
def combine_mixed(chunks, first, last, outs, out_codes, inputs, codes, counts, coefficients):
    """Do the same as `combine` for any dtypes; tensor t has the first `counts[t]` of its row of inputs."""
    values, total = np.empty(STRIP, np.float32), np.empty(STRIP, np.float32)
    for chunk in range(first, last):
        t, stop = chunks[chunk, 0], chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            for k in range(counts[t]):
                decode(inputs[t, k], codes[t, k], start, n, values)
                if k == 0:
                    _scaled(values, coefficients[t, k], n, total)
                else:
                    _add_scaled(values, coefficients[t, k], n, total)
            if counts[t] == 0:
                total[:n] = np.float32(0)
            encode(total, n, outs[t], out_codes[t], start)


@compiled
def combine_rows(chunks, first, last, outs, out_codes, inputs, codes, coefficients, inner):
    """Merge chunks of one tensor with coefficients (K, S) float32: element e has those at e // inner % S.

    `outs` (1,) and `inputs` (1, K) int64 are addresses.
    """
    values, total = np.empty(STRIP, np.float32), np.empty(STRIP, np.float32)
    count, size = coefficients.shape
    for chunk in range(first, last):
        start, stop = chunks[chunk, 1], chunks[chunk, 2]
        while start < stop:
            position = start // inner % size
            # A strip ends at the end of a row, or of the coefficients if they vary within a row.
            end = start + size - position if inner == 1 else (start // inner + 1) * inner
            n = min(STRIP, stop - start, end - start)
            for k in range(count):
                decode(inputs[0, k], codes[0, k], start, n, values)
                if inner == 1:
                    vector = coefficients[k, position : position + n]
                    if k == 0:
                        _vector_scaled(values, vector, n, total)
                    else:
                        _add_vector_scaled(values, vector, n, total)
                elif k == 0:
                    _scaled(values, coefficients[k, position], n, total)
                else:
                    _add_scaled(values, coefficients[k, position], n, total)
            encode(total, n, outs[0], out_codes[0], start)
            start += n

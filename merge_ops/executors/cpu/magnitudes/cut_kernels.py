"""Kernels that finish a pending cut: find the nth index among equal magnitudes, or the nth magnitude of a group.

Their rows are (cut, start, stop); `inputs` and `codes` are (cuts, K + 1), the rest as in histograms.py.
"""

from __future__ import annotations

import numpy as np

from ..load_store import STRIP, compiled, opened
from .values import between, count_between, magnitudes

BLOCK = 32  # elements that are counted with vector instructions, before any is examined by itself


@compiled
def indices_of(rows, first, last, inputs, codes, access, like, at, bits, nths, index_of):
    """Write the index of each cut's nth element (from 1) with the cut's magnitude to `index_of` (cuts,) int64.

    Write -1 if there is none. `bits` uint32 and `nths` int64 have one entry per cut.
    """
    values, strips = np.empty(STRIP, np.uint32), np.empty((len(like), STRIP), np.float32)
    for row in range(first, last):
        q, stop = rows[row, 0], rows[row, 2]
        nth, index_of[q] = nths[q], -1
        for start in range(rows[row, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            x = opened(access, at, inputs[q], codes[q], start, n, strips)
            # Counting is vectorized; only the strip with the nth element is searched element by element.
            count = count_between(access, like, x, n, bits[q], bits[q])
            if count >= nth:
                magnitudes(access, like, x, n, values)
                index_of[q] = start + _nth(values, n, bits[q], nth)
                break
            nth -= count


@compiled
def _nth(values, n, bits, nth):
    for e in range(n):
        if values[e] == bits:
            nth -= 1
            if nth == 0:
                return e
    return -1


@compiled
def members(rows, first, last, inputs, codes, access, like, at, limits, offsets, bits, indices):
    """Collect the elements of rows with magnitudes within their cut's `limits` (cuts, 2) uint32.

    Their bits (uint32) and indices (int64) are written from offsets[row] on.
    """
    values, strips = np.empty(STRIP, np.uint32), np.empty((len(like), STRIP), np.float32)
    for row in range(first, last):
        q, to, stop = rows[row, 0], offsets[row], rows[row, 2]
        low, high = limits[q, 0], limits[q, 1]
        for start in range(rows[row, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            x = opened(access, at, inputs[q], codes[q], start, n, strips)
            if count_between(access, like, x, n, low, high) == 0:
                continue
            magnitudes(access, like, x, n, values)
            for begin in range(0, n, BLOCK):
                end = min(begin + BLOCK, n)
                if between(values[begin:], end - begin, low, high):
                    for e in range(begin, end):
                        if low <= values[e] <= high:
                            bits[to] = values[e]
                            indices[to] = start + e
                            to += 1


@compiled
def cuts_among(rows, first, last, bits, indices, limits, needs, cuts, bounds):
    """Write the cut that keeps the `needs` largest elements of each row (cut, start, stop) of `members`.

    `cuts` uint32 and `bounds` int64 are the fields of `mask_cuts.Cut`.
    """
    for row in range(first, last):
        q, start, stop = rows[row, 0], rows[row, 1], rows[row, 2]
        values, n, low, high = bits[start:stop], stop - start, np.int64(limits[q, 0]), np.int64(limits[q, 1])
        # Bisection for the largest magnitude that at least `needs` elements reach.
        while low < high:
            middle = (low + high + 1) >> 1
            if between(values, n, np.uint32(middle), np.uint32(0xFFFFFFFF)) >= needs[q]:
                low = middle
            else:
                high = middle - 1
        # The larger ones are all kept; of those with that magnitude, the lowest indices make up the rest.
        above = between(values, n, np.uint32(low + 1), np.uint32(0xFFFFFFFF))
        cuts[q] = np.uint32(low)
        bounds[q] = indices[start + _nth(values, n, np.uint32(low), needs[q] - above)] + 1

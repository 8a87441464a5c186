"""Kernels that look up what a histogram leaves open of a cut: one index, or one of a few magnitudes.

Their rows are (question, start, stop); `inputs` and `codes` are (questions, K + 1), the rest as in histograms.py.
"""

from __future__ import annotations

import numpy as np

from .load_store import STRIP, compiled, opened
from .magnitudes import between, count_between, magnitudes

FEW = 32  # elements that are looked at one by one


@compiled
def places_of(rows, first, last, inputs, codes, form, like, at, bits, nths, places):
    """The index of each row's nth element (from 1) of its question's magnitude, in `places` int64; -1 if there is none.

    `bits` uint32 and `nths` int64 are by question.
    """
    found, strips = np.empty(STRIP, np.uint32), np.empty((len(like), STRIP), np.float32)
    for row in range(first, last):
        q, stop = rows[row, 0], rows[row, 2]
        nth, places[q] = nths[q], -1
        for start in range(rows[row, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            x = opened(form, at, inputs[q], codes[q], start, n, strips)
            count = count_between(form, like, x, n, bits[q], bits[q])
            if count >= nth:
                magnitudes(form, like, x, n, found)
                places[q] = start + _nth(found, n, bits[q], nth)
                break
            nth -= count


@compiled
def _nth(found, n, bits, nth):
    for e in range(n):
        if found[e] == bits:
            nth -= 1
            if nth == 0:
                return e
    return -1


@compiled
def members(rows, first, last, inputs, codes, form, like, at, limits, offsets, bits, indices):
    """The elements of rows with magnitudes within their question's `limits` (questions, 2) uint32.

    Their bits (uint32) and indices (int64) stand from offsets[row] on.
    """
    found, strips = np.empty(STRIP, np.uint32), np.empty((len(like), STRIP), np.float32)
    for row in range(first, last):
        q, place, stop = rows[row, 0], offsets[row], rows[row, 2]
        low, high = limits[q, 0], limits[q, 1]
        for start in range(rows[row, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            x = opened(form, at, inputs[q], codes[q], start, n, strips)
            if count_between(form, like, x, n, low, high) == 0:
                continue
            magnitudes(form, like, x, n, found)
            for few in range(0, n, FEW):
                most = min(few + FEW, n)
                if between(found[few:], most - few, low, high):
                    for e in range(few, most):
                        if low <= found[e] <= high:
                            bits[place] = found[e]
                            indices[place] = start + e
                            place += 1


@compiled
def cuts_among(rows, first, last, bits, indices, limits, needs, cuts, bounds):
    """Of rows (question, start, stop) of `members`: the cut below which the `need` largest stay.

    `cuts` uint32 and `bounds` int64: see `masks.Cut`.
    """
    for row in range(first, last):
        q, start, stop = rows[row, 0], rows[row, 1], rows[row, 2]
        own, n, low, high = bits[start:stop], stop - start, np.int64(limits[q, 0]), np.int64(limits[q, 1])
        while low < high:  # the largest magnitude that `need` elements reach
            middle = (low + high + 1) >> 1
            if between(own, n, np.uint32(middle), np.uint32(0xFFFFFFFF)) >= needs[q]:
                low = middle
            else:
                high = middle - 1
        above = between(own, n, np.uint32(low + 1), np.uint32(0xFFFFFFFF))
        cuts[q] = np.uint32(low)
        bounds[q] = indices[start + _nth(own, n, np.uint32(low), needs[q] - above)] + 1

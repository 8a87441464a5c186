"""Kernels that look up what a histogram leaves open of a cut: one index, or one of a few magnitudes."""

from __future__ import annotations

import numpy as np

from .histograms import between, count_between, magnitudes
from .strips import STRIP, compiled

FEW = 32  # elements that are looked at one by one


@compiled
def places_of(rows, first, last, inputs, codes, sources, bits, nths, places):
    """Per row (place in the other arrays, start, stop): where its nth element (from 1) of this magnitude is.

    `places` int64 takes the index, -1 where there are fewer.
    """
    found = np.empty(STRIP, np.uint32)
    for row in range(first, last):
        q, begin, stop = rows[row, 0], rows[row, 1], rows[row, 2]
        places[q] = _place_of(inputs[q], codes[q], sources[q], begin, stop, bits[q], nths[q], found)


@compiled
def _place_of(inputs, codes, source, begin, stop, bits, nth, found):
    for start in range(begin, stop, STRIP):
        n = min(STRIP, stop - start)
        count = count_between(inputs, codes, source, start, n, bits, bits, found)
        if count >= nth:
            magnitudes(inputs, codes, source, start, n, found)
            return start + _nth(found, n, bits, nth)
        nth -= count
    return -1


@compiled
def _nth(found, n, bits, nth):
    for e in range(n):
        if found[e] == bits:
            nth -= 1
            if nth == 0:
                return e
    return -1


@compiled
def members(rows, first, last, inputs, codes, sources, limits, offsets, bits, indices):
    """The elements of rows (place in the other arrays, start, stop) with magnitudes within `limits`, (.., 2) uint32.

    Their bits (uint32) and indices (int64) stand from offsets[row] on.
    """
    found = np.empty(STRIP, np.uint32)
    for row in range(first, last):
        q, place, stop = rows[row, 0], offsets[row], rows[row, 2]
        low, high = limits[q, 0], limits[q, 1]
        for start in range(rows[row, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            if count_between(inputs[q], codes[q], sources[q], start, n, low, high, found) == 0:
                continue
            magnitudes(inputs[q], codes[q], sources[q], start, n, found)
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
    """Per row (place in the other arrays, start, stop) of `members`: the cut below which the `need` largest stay.

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

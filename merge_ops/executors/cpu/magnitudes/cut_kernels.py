"""Kernels that finish a pending cut: find the nth index among equal magnitudes, or the nth magnitude of a group.

Their rows are (cut, start, stop); `inputs` and `codes` are (cuts, K + 1), the rest as in histograms.py.
"""

from __future__ import annotations

import numpy as np

from ..load_store import STRIP, compiled, opened
from .values import between, count_between, magnitudes

BLOCK = 32  # elements whose members are counted by vector instructions before any is looked at


@compiled
def indices_of(rows, first, last, inputs, codes, access, like, at, bits, nths, found):
    """Write the index of each row's nth element (from 1) with its cut's magnitude to `found`, int64; -1 without one.

    `bits` uint32 and `nths` int64 have one entry per cut.
    """
    values, strips = np.empty(STRIP, np.uint32), np.empty((len(like), STRIP), np.float32)
    for row in range(first, last):
        q, stop = rows[row, 0], rows[row, 2]
        nth, found[q] = nths[q], -1
        for start in range(rows[row, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            x = opened(access, at, inputs[q], codes[q], start, n, strips)
            # Strips are counted first: only the one with the nth element needs a look at single elements.
            count = count_between(access, like, x, n, bits[q], bits[q])
            if count >= nth:
                magnitudes(access, like, x, n, values)
                found[q] = start + _nth(values, n, bits[q], nth)
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
        q, place, stop = rows[row, 0], offsets[row], rows[row, 2]
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
                            bits[place] = values[e]
                            indices[place] = start + e
                            place += 1


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
        # Elements of that magnitude fill up what the larger ones leave, lowest indices first.
        above = between(values, n, np.uint32(low + 1), np.uint32(0xFFFFFFFF))
        cuts[q] = np.uint32(low)
        bounds[q] = indices[start + _nth(values, n, np.uint32(low), needs[q] - above)] + 1

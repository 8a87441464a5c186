"""The hash of `numerics/random_masks.py`, and fixed-point sums of the magnitudes that masks keep.

Kernels here take the chunks of one tensor, `inputs` and `codes` (K + 1,) int64 (addresses and dtype codes of the base
and the sources), and the index of the source among these. A fixed-point magnitude is floor(scale |x|), int32; integer
sums do not depend on the order of their terms.
"""

from __future__ import annotations

import numpy as np

from ...numerics.random_masks import FACTORS, HIGH_FACTOR, SHIFTS
from .load_store import STRIP, compiled, decode_delta

SHIFT0, SHIFT1, SHIFT2, SHIFT3 = (np.uint32(shift) for shift in SHIFTS)
FACTOR0, FACTOR1, FACTOR2 = (np.uint32(factor) for factor in FACTORS)
FACTOR_OF_HIGH = np.uint32(HIGH_FACTOR)


@compiled
def mixed(index, key0, key1):
    """Return the 32-bit hash of an element; `index` is the low half of its index, `key1` comes from `second_key`."""
    x = np.uint32(index ^ key0)
    x = np.uint32(x ^ np.uint32(x >> SHIFT0))
    x = np.uint32(np.uint32(x * FACTOR0) + key1)
    x = np.uint32(x ^ np.uint32(x >> SHIFT1))
    x = np.uint32(x * FACTOR1)
    x = np.uint32(x ^ np.uint32(x >> SHIFT2))
    x = np.uint32(x * FACTOR2)
    return np.uint32(x ^ np.uint32(x >> SHIFT3))


@compiled
def second_key(key1, start):
    """Return the second key word, uint32, for elements whose index has the same high half as `start`."""
    return np.uint32(np.uint32(key1) + np.uint32(np.uint32(start >> 32) * FACTOR_OF_HIGH))


@compiled
def _fixed(values, scale, n, fixed):
    for e in range(n):
        fixed[e] = np.int32(np.float32(abs(values[e]) * scale))


@compiled
def _sum_kept(fixed, start, key0, key1, share, n):
    total = np.int64(0)
    for e in range(n):
        keep = np.uint32(mixed(np.uint32(start + np.uint32(e)), key0, key1) >> np.uint32(16)) < share
        total += np.int64(fixed[e] if keep else np.int32(0))
    return total


@compiled
def _add_by_hash(fixed, start, key0, key1, n, sums):
    for e in range(n):
        sums[np.uint32(mixed(np.uint32(start + np.uint32(e)), key0, key1) >> np.uint32(16))] += np.int64(fixed[e])


@compiled
def kept_sums(chunks, first, last, inputs, codes, source, scale, key0, key1, share, sums):
    """Write the sum of the fixed-point magnitudes whose hash level is below `share` to `sums` (C,) int64."""
    base, values = np.empty(STRIP, np.float32), np.empty(STRIP, np.float32)
    fixed = np.empty(STRIP, np.int32)
    for chunk in range(first, last):
        total, stop = np.int64(0), chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            decode_delta(inputs, codes, source, start, n, base, values)
            _fixed(values, scale, n, fixed)
            total += _sum_kept(fixed, np.uint32(start), np.uint32(key0), second_key(key1, start), np.uint32(share), n)
        sums[chunk] = total


@compiled
def sums_by_hash(chunks, first, last, inputs, codes, source, scale, key0, key1, sums):
    """Add each fixed-point magnitude to the entry of `sums` (65536,) int64 of its hash level, the top 16 bits."""
    base, values = np.empty(STRIP, np.float32), np.empty(STRIP, np.float32)
    fixed = np.empty(STRIP, np.int32)
    for chunk in range(first, last):
        stop = chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            decode_delta(inputs, codes, source, start, n, base, values)
            _fixed(values, scale, n, fixed)
            _add_by_hash(fixed, np.uint32(start), np.uint32(key0), second_key(key1, start), n, sums)


@compiled
def largest_bits(chunks, first, last, inputs, codes, source, largest):
    """Write the largest magnitude of each chunk, as float32 bits without the sign, to `largest` (C,) uint32."""
    base, values = np.empty(STRIP, np.float32), np.empty(STRIP, np.float32)
    for chunk in range(first, last):
        most, stop = np.uint32(0), chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            decode_delta(inputs, codes, source, start, n, base, values)
            most = max(most, _largest(values.view(np.uint32), n))
        largest[chunk] = most


@compiled
def _largest(bits, n):
    most = np.uint32(0)
    for e in range(n):
        most = max(most, np.uint32(bits[e] & np.uint32(0x7FFFFFFF)))
    return most


@compiled
def _sum_within(values, fixed, start, low, bound, high, top_bound, n):
    bits = values.view(np.uint32)
    total = np.int64(0)
    for e in range(n):
        magnitude = np.uint32(bits[e] & np.uint32(0x7FFFFFFF))
        kept = (magnitude > low) | ((magnitude == low) & (start + e < bound))
        kept &= (magnitude < high) | ((magnitude == high) & (start + e >= top_bound))
        total += np.int64(fixed[e] if kept else np.int32(0))
    return total


@compiled
def window_sums(chunks, first, last, inputs, codes, source, scale, low, bound, high, top_bound, sums):
    """Write the sum of the fixed-point magnitudes between two cuts to `sums` (C,) int64.

    `low` and `bound`, `high` and `top_bound` are the fields of the lower and the upper `mask_cuts.Cut`.
    """
    base, values = np.empty(STRIP, np.float32), np.empty(STRIP, np.float32)
    fixed = np.empty(STRIP, np.int32)
    for chunk in range(first, last):
        total, stop = np.int64(0), chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            decode_delta(inputs, codes, source, start, n, base, values)
            _fixed(values, scale, n, fixed)
            total += _sum_within(values, fixed, start, low, bound, high, top_bound, n)
        sums[chunk] = total

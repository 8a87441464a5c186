"""The hash of `numerics/random_masks.py`, and fixed-point sums of the magnitudes that masks keep."""

from __future__ import annotations

import numpy as np

from .load_store import STRIP, compiled, decode_delta


@compiled
def mixed(index, key0, key1):
    """The 32-bit hash of the low half of an element's index; `key1` has the high half mixed in (`second_key`)."""
    x = np.uint32(index ^ key0)
    x = np.uint32(x ^ np.uint32(x >> np.uint32(17)))
    x = np.uint32(np.uint32(x * np.uint32(0xED5AD4BB)) + key1)
    x = np.uint32(x ^ np.uint32(x >> np.uint32(11)))
    x = np.uint32(x * np.uint32(0xAC4C1B51))
    x = np.uint32(x ^ np.uint32(x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x31848BAB))
    return np.uint32(x ^ np.uint32(x >> np.uint32(14)))


@compiled
def second_key(key1, start):
    """The second key word for elements whose index has the high half of `start`."""
    return np.uint32(np.uint32(key1) + np.uint32(np.uint32(start >> 32) * np.uint32(0x9E3779B9)))


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
    """Per chunk, in `sums` int64: the fixed-point magnitudes of a task vector whose hash is below `share`."""
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
    """Adds fixed-point magnitudes of a task vector to `sums`, (65536,) int64, by the top 16 bits of their hash."""
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
    """Per chunk, in `largest` uint32: the largest magnitude of a task vector, as float32 bits."""
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
        own = np.uint32(bits[e] & np.uint32(0x7FFFFFFF))
        kept = (own > low) | ((own == low) & (start + e < bound))
        kept &= (own < high) | ((own == high) & (start + e >= top_bound))
        total += np.int64(fixed[e] if kept else np.int32(0))
    return total


@compiled
def window_sums(chunks, first, last, inputs, codes, source, scale, low, bound, high, top_bound, sums):
    """Per chunk, in `sums` int64: the fixed-point magnitudes of a task vector between two cuts; see `mask_cuts.Cut`."""
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

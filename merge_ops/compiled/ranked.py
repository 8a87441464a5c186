"""Masks by rank within rows: thresholds for hashes, rows sorted on the fly by a radix sort."""

from __future__ import annotations

import numpy as np

from .hashes import mixed, second_key
from .strips import compiled, decode_delta

DIGIT, DIGITS = 11, 2048  # bits of a digit; three digits hold the 31 bits of a magnitude


@compiled
def rank_thresholds(values, n, levels, keys, order, counts, thresholds):
    """Thresholds of a row by ascending magnitude, among equals by index: levels[rank], uint32.

    `keys` and `order` are scratch, (2, n) uint32; `counts` is (3, 2048).
    """
    bits = values.view(np.uint32)
    counts[:] = 0
    for e in range(n):
        key = np.uint32(bits[e] & np.uint32(0x7FFFFFFF))
        keys[0, e] = key
        order[0, e] = np.uint32(e)
        counts[0, key & np.uint32(DIGITS - 1)] += 1
        counts[1, (key >> np.uint32(DIGIT)) & np.uint32(DIGITS - 1)] += 1
        counts[2, key >> np.uint32(2 * DIGIT)] += 1
    side = 0
    for digit in range(3):
        shift = np.uint32(digit * DIGIT)
        if counts[digit, (keys[side, 0] >> shift) & np.uint32(DIGITS - 1)] == n:
            continue  # all alike: nothing to sort by
        place = np.uint32(0)
        for value in range(DIGITS):
            count = counts[digit, value]
            counts[digit, value] = place
            place += count
        for e in range(n):
            key = keys[side, e]
            value = (key >> shift) & np.uint32(DIGITS - 1)
            to = counts[digit, value]
            counts[digit, value] = to + 1
            keys[1 - side, to] = key
            order[1 - side, to] = order[side, e]
        side = 1 - side
    for rank in range(n):
        thresholds[order[side, rank]] = levels[rank]


@compiled
def kept_sums_by_rank(chunks, first, last, inputs, codes, source, length, levels, scale, key0, key1, sums):
    """Per chunk of whole rows, in `sums` int64: fixed-point magnitudes of what a mask by rank keeps."""
    base, values = np.empty(length, np.float32), np.empty(length, np.float32)
    keys, order = np.empty((2, length), np.uint32), np.empty((2, length), np.uint32)
    counts, thresholds = np.empty((3, DIGITS), np.uint32), np.empty(length, np.uint32)
    for chunk in range(first, last):
        total = np.int64(0)
        for start in range(chunks[chunk, 1], chunks[chunk, 2], length):
            decode_delta(inputs, codes, source, start, length, base, values)
            rank_thresholds(values, length, levels, keys, order, counts, thresholds)
            total += _sum_below(values, start, np.uint32(key0), second_key(key1, start), thresholds, scale, length)
        sums[chunk] = total


@compiled
def _sum_below(values, start, key0, key1, thresholds, scale, n):
    total = np.int64(0)
    for e in range(n):
        keep = np.uint32(mixed(np.uint32(start + e), key0, key1) >> np.uint32(16)) < thresholds[e]
        total += np.int64(np.float32(abs(values[e]) * scale)) if keep else np.int64(0)
    return total

"""Masks by rank within rows, one bit per element.

DELLA (arXiv:2406.11617, MAGPRUNE) keeps an element with a probability that grows with the rank of its magnitude in its
row. A radix sort gives the ranks; an element stays if its hash level is below the threshold of its rank.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import carray

from .hash_kernels import mixed, second_key
from .load_store import compiled, decode_delta, pointer

DIGIT, DIGITS = 11, 2048  # bits of a digit, and its values; three digits hold the 31 bits of a magnitude
WORD = 32  # elements per word of a bitmap
_uint32_at: Any = pointer(types.uint32)


@compiled
def _rank_thresholds(values, n, levels, keys, order, counts, thresholds):
    """Write levels[rank] of each element of a row to `thresholds` (n,) uint32; ranks ascend by magnitude, then index.

    A least-significant-digit radix sort with 11 bits per digit. `keys` and `order` (2, n) uint32 are scratch: the
    sorted keys and the permutation, which alternate between both rows. So is `counts` (3, 2048) uint32, a histogram per
    digit.
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
            continue  # all elements have the same digit
        offset = np.uint32(0)
        for value in range(DIGITS):
            count = counts[digit, value]
            counts[digit, value] = offset
            offset += count
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
def rank_masks(chunks, first, last, inputs, codes, source, length, levels, scale, key0, key1, words, sums):
    """Compute the mask by rank of one task vector. Chunks have whole rows and start at multiples of 32 elements.

    The mask is written to `words` uint32, one bit per element, and the sum of the fixed-point magnitudes that each
    chunk keeps to `sums` (C,) int64. `levels` (length,) uint32 is the threshold of each rank; `source`, `scale` and the
    keys are as in hash_kernels.py.
    """
    base, values = np.empty(length, np.float32), np.empty(length, np.float32)
    keys, order = np.empty((2, length), np.uint32), np.empty((2, length), np.uint32)
    counts, thresholds = np.empty((3, DIGITS), np.uint32), np.empty(length, np.uint32)
    size = np.int64(0)
    for chunk in range(first, last):
        size = max(size, chunks[chunk, 2] - chunks[chunk, 1])
    kept = np.zeros(size + WORD, np.uint32)
    for chunk in range(first, last):
        begin, stop, total = chunks[chunk, 1], chunks[chunk, 2], np.int64(0)
        for start in range(begin, stop, length):
            decode_delta(inputs, codes, source, start, length, base, values)
            _rank_thresholds(values, length, levels, keys, order, counts, thresholds)
            second, row = second_key(key1, start), kept[start - begin :]
            _keep_below(np.uint32(start), np.uint32(key0), second, thresholds, length, row)
            total += _sum_kept(values, row, scale, length)
        sums[chunk] = total
        kept[stop - begin : stop - begin + WORD] = np.uint32(0)
        for word in range(begin // WORD, (stop + WORD - 1) // WORD):
            words[word] = _packed(kept[word * WORD - begin :])


@compiled
def _keep_below(start, key0, key1, thresholds, n, kept):
    for e in range(n):
        level = np.uint32(mixed(np.uint32(start + np.uint32(e)), key0, key1) >> np.uint32(16))
        kept[e] = np.uint32(level < thresholds[e])


@compiled
def _sum_kept(values, kept, scale, n):
    total = np.int64(0)
    for e in range(n):
        total += np.int64(np.int32(np.float32(abs(values[e]) * scale)) if kept[e] else np.int32(0))
    return total


@compiled
def _packed(kept):
    word = np.uint32(0)
    for e in range(WORD):
        word |= np.uint32(kept[e] << np.uint32(e))
    return word


@compiled
def unpack(words, start, n, kept):
    """Write the bits [start, start + n) of the words at an address to `kept`, uint32; `start` is a multiple of 32."""
    stored = carray(_uint32_at(words + start // 8), ((n + WORD - 1) // WORD,))
    for first in range(0, n, WORD):
        word = stored[first // WORD]
        for e in range(min(WORD, n - first)):
            kept[first + e] = np.uint32(np.uint32(word >> np.uint32(e)) & np.uint32(1))

"""Kernels that count magnitudes: what it takes to say which elements of a tensor are the largest, exactly.

Magnitudes are float32 bits without the sign, which order as the numbers do. A bin is the upper 16 of these 31 bits and
whether the lower 15 are all zero: differences of bfloat16 numbers mostly end in zeros, so most bins hold one value.
"""

from __future__ import annotations

import numpy as np

from .strips import BFLOAT16, STRIP, compiled, decode_delta, number, pair

BINS = 1 << 17
VARIANCE = 0  # the place of the base: no source of a task vector


@compiled
def _bin(bits):
    tail = np.uint32(1) if np.uint32(bits & np.uint32(0x7FFF)) != np.uint32(0) else np.uint32(0)
    return np.uint32(np.uint32(np.uint32(bits >> np.uint32(15)) << np.uint32(1)) | tail)


@compiled
def _add(values, n, total):
    for e in range(n):
        total[e] += values[e]


@compiled
def _add_square(values, mean, n, total):
    for e in range(n):
        d = np.float32(values[e] - mean[e])
        total[e] += np.float32(d * d)


@compiled
def _scale(values, factor, n):
    for e in range(n):
        values[e] *= factor


@compiled
def magnitude_source(inputs, codes, source, start, n, base, scratch, values):
    """A task vector into `values`, or with VARIANCE the variance of all task vectors; float32, the base first."""
    if source != VARIANCE:
        decode_delta(inputs, codes, source, start, n, base, values)
        return
    count = len(inputs) - 1
    share = np.float32(1.0 / count)
    mean = scratch
    mean[:n] = np.float32(0)
    for k in range(count):
        decode_delta(inputs, codes, k + 1, start, n, base, values)
        if k == 0:
            mean[:n] = values[:n]
        else:
            _add(values, n, mean)
    _scale(mean, share, n)
    total = np.zeros(n, np.float32)
    for k in range(count):
        decode_delta(inputs, codes, k + 1, start, n, base, values)
        _add_square(values, mean, n, total)
    _scale(total, share, n)
    values[:n] = total


@compiled
def _without_sign(bits, n, found):
    for e in range(n):
        found[e] = np.uint32(bits[e] & np.uint32(0x7FFFFFFF))


@compiled
def _count(found, n, counts):
    for e in range(n):
        counts[_bin(found[e])] += 1


@compiled
def _magnitudes_of_bfloat16(base, source, n, found):
    for e in range(n):
        d = np.float32(number(BFLOAT16, source, e) - number(BFLOAT16, base, e))
        found[e] = np.uint32(d.view(np.uint32) & np.uint32(0x7FFFFFFF))


@compiled
def magnitudes(inputs, codes, source, start, n, found):
    """Magnitude bits of elements [start, start + n) into `found`, uint32."""
    if source != VARIANCE and codes[0] == 0 and codes[source] == 0:
        _magnitudes_of_bfloat16(inputs[0] + 2 * start, inputs[source] + 2 * start, n, found)
        return
    base, scratch, values = np.empty(STRIP, np.float32), np.empty(STRIP, np.float32), np.empty(STRIP, np.float32)
    bits = values.view(np.uint32)
    for offset in range(0, n, STRIP):
        size = min(STRIP, n - offset)
        magnitude_source(inputs, codes, source, start + offset, size, base, scratch, values)
        _without_sign(bits, size, found[offset : offset + size])


@compiled
def _between_of_bfloat16(at, n, low, high):
    none = (np.float32(0), np.float32(0))
    span, count = np.uint32(high - low), np.uint32(0)
    for p in range(n // 2):
        even, odd = pair(none, at, p)
        count += np.uint32(np.uint32(_magnitude(even) - low) <= span)
        count += np.uint32(np.uint32(_magnitude(odd) - low) <= span)
    if n % 2:
        last = (number(BFLOAT16, at[0], n - 1), number(BFLOAT16, at[1], n - 1))
        count += np.uint32(np.uint32(_magnitude(last) - low) <= span)
    return np.int64(count)


@compiled
def _magnitude(x):
    return np.uint32(np.float32(x[1] - x[0]).view(np.uint32) & np.uint32(0x7FFFFFFF))


@compiled
def count_between(inputs, codes, source, start, n, low, high, found):
    """How many of elements [start, start + n) have magnitudes in [low, high]; `found` (n,) uint32 is overwritten."""
    if source != VARIANCE and codes[0] == 0 and codes[source] == 0:
        return _between_of_bfloat16((inputs[0] + 2 * start, inputs[source] + 2 * start), n, low, high)
    magnitudes(inputs, codes, source, start, n, found)
    return between(found, n, low, high)


@compiled
def histogram(chunks, first, last, inputs, codes, source, counts):
    """Adds to `counts`, (BINS,) int64, how many elements of the chunks fall into each bin."""
    found = np.empty(STRIP, np.uint32)
    for chunk in range(first, last):
        stop = chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            magnitudes(inputs, codes, source, start, n, found)
            _count(found, n, counts)


@compiled
def grouped(counts, target, groups):
    """Joins neighbouring bins into groups of at most `target` elements; returns how many.

    A bin of one value that alone reaches `target` is a group of its own. `groups`, (BINS,) uint16, takes the group of
    every bin.
    """
    last, held, alone = -1, 0, False
    for b in range(len(counts)):
        count = counts[b]
        if count:
            single = b % 2 == 0 and count >= target
            if last < 0 or single or alone or held + count > target:
                last += 1
                held = 0
            alone = single
            held += count
        groups[b] = max(last, 0)
    return last + 1


@compiled
def group_counts(chunks, first, last, inputs, codes, source, groups, counts):
    """How many elements there are per chunk and group, added to `counts`, uint32."""
    found = np.empty(STRIP, np.uint32)
    for chunk in range(first, last):
        stop, own = chunks[chunk, 2], counts[chunk]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            magnitudes(inputs, codes, source, start, n, found)
            for e in range(n):
                own[groups[_bin(found[e])]] += np.uint32(1)


@compiled
def between_counts(chunks, first, last, inputs, codes, source, low, high, counts):
    """How many elements of each chunk have magnitudes in [low, high], in `counts`, int64."""
    found = np.empty(STRIP, np.uint32)
    for chunk in range(first, last):
        total, stop = np.int64(0), chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            total += count_between(inputs, codes, source, start, n, low, high, found)
        counts[chunk] = total


@compiled
def between(found, n, low, high):
    """How many of n uint32 are in [low, high]."""
    count = np.uint32(0)
    for e in range(n):
        count += np.uint32((found[e] >= low) & (found[e] <= high))
    return np.int64(count)

"""Kernels that count magnitudes: what it takes to say which elements of a tensor are the largest, exactly.

A bin is the upper 16 of a magnitude's 31 bits and whether the lower 15 are all zero: differences of bfloat16 numbers
mostly end in zeros, so most bins hold one value.

All take one tensor's chunks and `inputs` and `codes` (K + 1,) int64, addresses and dtypes of the base and the sources;
`access` (`load_store.Access`), and for their types `like` and `at`, tuples of K + 1 float32 and int64.
"""

from __future__ import annotations

import numpy as np

from ..load_store import STRIP, compiled, opened
from .values import count_between, magnitudes

BINS = 1 << 17


@compiled
def _bin(bits):
    tail = np.uint32(1) if np.uint32(bits & np.uint32(0x7FFF)) != np.uint32(0) else np.uint32(0)
    return np.uint32(np.uint32(np.uint32(bits >> np.uint32(15)) << np.uint32(1)) | tail)


@compiled
def _count(found, n, counts):
    for e in range(n):
        counts[_bin(found[e])] += 1


@compiled
def histogram(chunks, first, last, inputs, codes, access, like, at, counts):
    """Adds to `counts`, (BINS,) int64, how many elements of the chunks fall into each bin."""
    found, strips = np.empty(STRIP, np.uint32), np.empty((len(like), STRIP), np.float32)
    for chunk in range(first, last):
        stop = chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            magnitudes(access, like, opened(access, at, inputs, codes, start, n, strips), n, found)
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
def group_counts(chunks, first, last, inputs, codes, access, like, at, groups, counts):
    """How many elements there are per chunk and group, added to `counts`, uint32."""
    found, strips = np.empty(STRIP, np.uint32), np.empty((len(like), STRIP), np.float32)
    for chunk in range(first, last):
        stop, own = chunks[chunk, 2], counts[chunk]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            magnitudes(access, like, opened(access, at, inputs, codes, start, n, strips), n, found)
            for e in range(n):
                own[groups[_bin(found[e])]] += np.uint32(1)


@compiled
def between_counts(chunks, first, last, inputs, codes, access, like, at, low, high, counts):
    """How many elements of each chunk have magnitudes in [low, high], in `counts`, int64."""
    strips = np.empty((len(like), STRIP), np.float32)
    for chunk in range(first, last):
        total, stop = np.int64(0), chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            total += count_between(access, like, opened(access, at, inputs, codes, start, n, strips), n, low, high)
        counts[chunk] = total

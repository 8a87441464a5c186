"""Kernels that count magnitudes in bins, for the exact selection of the largest ones.

A magnitude has 31 bits. Its bin is 2 u + t: u are the upper 16 bits, and t is 0 if the lower 15 are all zero, else 1.
Differences of bfloat16 values mostly end in zeros, so most bins hold a single value.

Kernels take the chunks of one tensor, `inputs` and `codes` (K + 1,) int64 (addresses and dtype codes of the base and
the sources), `access` (`load_store.Access`), and `like` and `at`, tuples of K + 1 float32 and int64 whose types
specialize them.
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
def _count(bits, n, counts):
    for e in range(n):
        counts[_bin(bits[e])] += 1


@compiled
def histogram(chunks, first, last, inputs, codes, access, like, at, counts):
    """Add the number of elements in each bin to `counts` (BINS,) int64."""
    bits, strips = np.empty(STRIP, np.uint32), np.empty((len(like), STRIP), np.float32)
    for chunk in range(first, last):
        stop = chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            magnitudes(access, like, opened(access, at, inputs, codes, start, n, strips), n, bits)
            _count(bits, n, counts)


@compiled
def grouped(counts, target, groups):
    """Join neighbouring bins into groups of at most `target` elements, and return the number of groups.

    A bin of a single value with at least `target` elements is not joined with others. The group of every bin is written
    to `groups` (BINS,) uint16.
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
    """Add the number of elements per chunk and group to `counts` (C, groups) uint32."""
    bits, strips = np.empty(STRIP, np.uint32), np.empty((len(like), STRIP), np.float32)
    for chunk in range(first, last):
        stop, in_chunk = chunks[chunk, 2], counts[chunk]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            magnitudes(access, like, opened(access, at, inputs, codes, start, n, strips), n, bits)
            for e in range(n):
                in_chunk[groups[_bin(bits[e])]] += np.uint32(1)


@compiled
def between_counts(chunks, first, last, inputs, codes, access, like, at, low, high, counts):
    """Write the number of elements of each chunk with magnitudes in [low, high] to `counts` (C,) int64."""
    strips = np.empty((len(like), STRIP), np.float32)
    for chunk in range(first, last):
        total, stop = np.int64(0), chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            total += count_between(access, like, opened(access, at, inputs, codes, start, n, strips), n, low, high)
        counts[chunk] = total

"""The kernel of masked sums: masks, rescales, weights, elects signs, sums and divides in one pass over memory.

Per element, with the task vectors T_k, masks m_k, rescale factors r_k and weights w_k of K sources (see `MaskedSum`):

    D_k = w_k r_k m_k T_k
    out = base + factor * vote(D_1, ..., D_K)

The kernel is compiled for each number of sources, `MaskKind` (`kind`), `Vote` (`vote`) and `Access` (`access`), so that
the loop over elements has no branches on them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem

from ..variants import MaskKind, Vote
from .hash_kernels import mixed, second_key
from .load_store import DIRECT, STRIP, STRIPS, compiled, encode, filled, opened, pair, put, put_pair
from .magnitudes.values import values_at
from .rank_masks import unpack

# Numba specializes on module-level constants only; see variants.py. Plans without windows run as WINDOW here: their
# upper cuts drop nothing, and testing both cuts takes one comparison.
WINDOW, HASH, RANK = MaskKind.WINDOW, MaskKind.HASH, MaskKind.RANK
SUM, AVERAGE, ELECT_AND_DIVIDE = Vote.SUM, Vote.AVERAGE, Vote.ELECT_AND_DIVIDE


class Tensors(NamedTuple):
    """Addresses and dtype codes (see `load_store.CODES`), int64, of T jobs with K sources each."""

    outs: np.ndarray  # (T,)
    out_codes: np.ndarray  # (T,)
    inputs: np.ndarray  # (T, K + 1), the base first
    codes: np.ndarray  # (T, K + 1)


class Masks(NamedTuple):
    """The masks of K sources of T jobs. WINDOW uses `cuts` and `bounds`, HASH `keys` and `shares`, RANK `words`."""

    cuts: np.ndarray  # (T, K, 2) uint32: `Cut.bits` of the lower cut, above which elements stay, and of the upper one
    bounds: np.ndarray  # (T, K, 2) int64: `Cut.bound` of both
    keys: np.ndarray  # (T, K, 2) uint32: key words of the hash
    shares: np.ndarray  # (T, K) uint32: elements whose hash level is below the share stay
    words: np.ndarray  # (T, K) int64: addresses of bitmaps with one bit per element


class Factors(NamedTuple):
    """Factors of T jobs with K sources, float32."""

    deltas: np.ndarray  # (T, K): w_k r_k
    weights: np.ndarray  # (T, K): w_k, from which ELECT_AND_DIVIDE computes its divisor
    sums: np.ndarray  # (T,): the factor of the sum


@compiled
def _merged(x, position, index, kind, vote, settings):
    """Return the merged element, float32, from its values `x` in the base and the sources.

    `position` is its index in the strip, `index` the low half of its index in the tensor. `settings` are the tuples
    that `masked_sum` prepares for each strip.
    """
    low, span, key0, key1, share, kept_by_rank, factor, weight, scale = settings
    base = x[0]
    total = np.float32(0)
    kept = np.float32(0)
    kept_delta = weight  # holds the masked task vectors of all sources in registers
    for k in range(len(weight)):
        d = np.float32(x[k + 1] - base)
        if kind == HASH:
            keep = np.uint32(mixed(index, key0[k], key1[k]) >> np.uint32(16)) < share[k]
        elif kind == RANK:
            keep = kept_by_rank[k, position] != np.uint32(0)
        else:
            # low <= bits < low + span with one comparison: below `low` the unsigned difference wraps around.
            bits = np.uint32(d.view(np.uint32) & np.uint32(0x7FFFFFFF))
            keep = np.uint32(bits - low[k]) < span[k]
        if vote == AVERAGE:
            kept = np.float32(kept + np.float32(keep))
        d = np.float32(d * factor[k]) if keep else np.float32(0)
        kept_delta = tuple_setitem(kept_delta, k, d)  # pyright: ignore[reportCallIssue] - an intrinsic
        total = d if k == 0 else np.float32(total + d)  # starting from 0 would turn a sum of -0 into +0
    if vote == AVERAGE:
        total = np.float32(total / (kept if kept > np.float32(1) else np.float32(1)))
    elif vote != SUM:
        total = _elected(total, kept_delta, weight, vote)
    return np.float32(np.float32(total * scale) + base)


@compiled
def _elected(votes, deltas, weight, vote):
    """Return the sum of the D_k with the elected sign: the elect and disjoint-merge steps of TIES (arXiv:2306.01708).

    With votes = sum_k D_k, sign = sgn(votes) (+ for 0) and A = {k: D_k sign > 0}, it is sum_{k in A} D_k, divided by
    sum_{k in A} w_k with ELECT_AND_DIVIDE.
    """
    # NaN propagates through the sign.
    sign = np.float32(1) if votes >= np.float32(0) else (np.float32(-1) if votes < np.float32(0) else votes)
    total = np.float32(0)
    divisor = np.float32(0)
    for k in range(len(weight)):
        d = np.float32(deltas[k] * sign)  # positive if the source agrees
        agreeing = d if d > np.float32(0) else np.float32(0)
        total = agreeing if k == 0 else np.float32(total + agreeing)
        if vote == ELECT_AND_DIVIDE:
            divisor = np.float32(divisor + (weight[k] if d > np.float32(0) else np.float32(0)))
    if vote == ELECT_AND_DIVIDE:
        total = np.float32(total / (divisor if divisor != np.float32(0) else np.float32(1)))
    return np.float32(total * sign)


@compiled
def _sum(access, x, like, start, n, kind, vote, settings, out):
    """Merge n elements at the addresses `x`, the base's first, and store them at the address `out`.

    `like` is a tuple of as many float32 as there are addresses.
    """
    # With hashes, two elements at a time would exceed the registers.
    paired = n // 2 if access == DIRECT and kind == WINDOW else 0
    for p in range(paired):
        even, odd = pair(like, x, p)
        first = _merged(even, 0, np.uint32(0), kind, vote, settings)
        put_pair(first, _merged(odd, 0, np.uint32(0), kind, vote, settings), out, p)
    for e in range(2 * paired, n):
        values = values_at(access, like, x, e)
        put(access, _merged(values, e, np.uint32(start + np.uint32(e)), kind, vote, settings), out, e)


@compiled
def _within(start, n, bounds):
    """Return the number of elements, at most n, from `start` to the next bound."""
    for k in range(bounds.shape[0]):
        for side in range(2):
            if start < bounds[k, side] < start + n:
                n = bounds[k, side] - start
    return n


@compiled
def _fill_strip(masks, t, start, n, kind, limits, kept):
    """Write the lowest kept magnitude, the span of kept magnitudes and the second key word to `limits` (3, K) uint32.

    No bound is inside the strip, so the same magnitudes are kept on all of it: low <= bits < low + span. For RANK, the
    bitmaps are unpacked to `kept` (K, STRIP) uint32.
    """
    for k in range(limits.shape[1]):
        low = masks.cuts[t, k, 0] + (np.uint32(0) if start < masks.bounds[t, k, 0] else np.uint32(1))
        high = masks.cuts[t, k, 1] + (np.uint32(0) if start < masks.bounds[t, k, 1] else np.uint32(1))
        limits[0, k] = low
        limits[1, k] = max(high, low) - low
        limits[2, k] = second_key(masks.keys[t, k, 1], start)
        if kind == RANK:
            unpack(masks.words[t, k], start, n, kept[k])


@compiled
def masked_sum(chunks, first, last, tensors, access, kind, vote, zeros, bits, like, masks, factors):
    """Merge chunks [first, last) of (tensor, start, stop).

    The types of `zeros` and `bits`, tuples of K float32 and uint32, and of `like`, a tuple of K + 1 int64, specialize
    the kernel.
    """
    count = len(zeros)
    longest = STRIP if access == STRIPS or kind == RANK else 1 << 31
    out, strips = np.empty(STRIP, np.float32), np.empty((count + 1, STRIP), np.float32)
    limits, kept = np.empty((3, count), np.uint32), np.empty((count, STRIP), np.uint32)
    for chunk in range(first, last):
        t, start, stop = chunks[chunk, 0], chunks[chunk, 1], chunks[chunk, 2]
        weight, factor = filled(zeros, factors.weights[t]), filled(zeros, factors.deltas[t])
        key0, share = filled(bits, masks.keys[t, :, 0]), filled(bits, masks.shares[t])
        while start < stop:
            n = _within(start, min(longest, stop - start), masks.bounds[t])
            _fill_strip(masks, t, start, n, kind, limits, kept)
            low, span, key1 = filled(bits, limits[0]), filled(bits, limits[1]), filled(bits, limits[2])
            settings = (low, span, key0, key1, share, kept, factor, weight, factors.sums[t])
            x = opened(access, like, tensors.inputs[t], tensors.codes[t], start, n, strips)
            to = tensors.outs[t] + 2 * start if access == DIRECT else np.int64(out.ctypes.data)
            _sum(access, x, (np.float32(0), *zeros), np.uint32(start), n, kind, vote, settings, to)
            if access == STRIPS:
                encode(out, n, tensors.outs[t], tensors.out_codes[t], start)
            start += n

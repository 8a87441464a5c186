"""Kernels of masked task-vector sums: mask, rescale, weigh, elect signs, sum, divide, in one pass over memory."""

from __future__ import annotations

import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem

from .hash_kernels import mixed, second_key
from .load_store import STRIP, compiled, encode, filled, opened, pair, put, put_pair
from .magnitudes import values_at
from .rank_masks import unpack

# What masks go by, and what happens to the sum, are told by lengths of tuples, which are part of numba's types: each
# combination has a kernel of its own, without branches in its loop.
MAGNITUDE, HASH, RANK = ((0,) * n for n in (1, 2, 3))
SUM, AVERAGE, ELECT, ELECT_AND_DIVIDE = ((0,) * n for n in (1, 2, 3, 4))


@compiled
def _merged(x, place, index, rule, vote, numbers):
    """One element of the base and the sources, `x`, merged: float32; it is the `place`th of its strip."""
    low, span, key0, key1, share, kept_by_rank, factor, weight, scale = numbers
    own = x[0]
    total = np.float32(0)
    kept = np.float32(0)
    kept_delta = weight  # of all sources, in registers
    for k in range(len(weight)):
        d = np.float32(x[k + 1] - own)
        if len(rule) == 1:
            bits = np.uint32(d.view(np.uint32) & np.uint32(0x7FFFFFFF))
            keep = np.uint32(bits - low[k]) < span[k]
        elif len(rule) == 2:
            bits = np.uint32(mixed(index, key0[k], key1[k]) >> np.uint32(16))
            keep = bits < share[k]
        else:
            keep = kept_by_rank[k, place] != np.uint32(0)
        if len(vote) == 2:
            kept = np.float32(kept + np.float32(keep))
        d = np.float32(d * factor[k]) if keep else np.float32(0)
        kept_delta = tuple_setitem(kept_delta, k, d)  # pyright: ignore[reportCallIssue] - an intrinsic
        total = d if k == 0 else np.float32(total + d)  # a sum that starts with -0 can stay -0
    if len(vote) == 2:
        total = np.float32(total / (kept if kept > np.float32(1) else np.float32(1)))
    elif len(vote) > 2:
        # A number that is none passes on by way of the sign.
        sign = np.float32(1) if total >= np.float32(0) else (np.float32(-1) if total < np.float32(0) else total)
        total = np.float32(0)
        divisor = np.float32(0)
        for k in range(len(weight)):
            d = np.float32(kept_delta[k] * sign)
            agreeing = d if d > np.float32(0) else np.float32(0)
            total = agreeing if k == 0 else np.float32(total + agreeing)
            if len(vote) == 4:
                divisor = np.float32(divisor + (weight[k] if d > np.float32(0) else np.float32(0)))
        if len(vote) == 4:
            total = np.float32(total / (divisor if divisor != np.float32(0) else np.float32(1)))
        total = np.float32(total * sign)
    return np.float32(np.float32(total * scale) + own)


@compiled
def _sum(form, x, like, start, n, rule, vote, numbers, out):
    """`x` is a tuple of addresses, the base's first; what lies there and at `out` is of `form`.

    `like` is a tuple of as many float32.
    """
    paired = n // 2 if len(form) == 1 and len(rule) == 1 else 0  # hashes leave no registers for two elements
    for p in range(paired):
        even, odd = pair(like, x, p)
        first = _merged(even, 0, np.uint32(0), rule, vote, numbers)
        put_pair(first, _merged(odd, 0, np.uint32(0), rule, vote, numbers), out, p)
    for e in range(2 * paired, n):
        values = values_at(form, like, x, e)
        put(form, _merged(values, e, np.uint32(start + np.uint32(e)), rule, vote, numbers), out, e)


@compiled
def _within(start, n, bounds):
    """How many of n elements come before the first bound behind `start`."""
    for k in range(bounds.shape[0]):
        for side in range(2):
            if start < bounds[k, side] < start + n:
                n = bounds[k, side] - start
    return n


@compiled
def masked_sum(
    chunks,
    first,
    last,
    outs,
    out_codes,
    inputs,
    codes,
    form,
    rule,
    vote,
    zeros,
    bits,
    like,
    cuts,
    bounds,
    keys,
    shares,
    masks,
    factors,
    weights,
    scales,
):
    """Chunks [first, last) of (tensor, start, stop); the base is the first input. `rule` is one of the above.

    `form` is BFLOAT16 where all tensors are, else STRIPS; `like` is a tuple of K + 1 int64.

    Per tensor and source: `cuts` (T, K, 2) uint32, magnitudes as float32 bits from which on and up to which elements
    stay, and `bounds` (T, K, 2) int64, the index below which elements equal to the one stay, and those equal to the
    other go; `keys` (T, K, 2) and `shares` (T, K) uint32 for hashes; `masks` (T, K) int64,
    addresses of words with a bit per element, by rank; `factors`, what elements are multiplied by, and `weights`, what
    divisors count, (T, K), `scales` (T,) float32. `zeros` and `bits` are tuples of K float32 and uint32, for their
    types.
    """
    count = len(zeros)
    longest = STRIP if len(form) == 2 or len(rule) == 3 else 1 << 31
    out, strips = np.empty(STRIP, np.float32), np.empty((count + 1, STRIP), np.float32)
    numbers, kept = np.empty((3, count), np.uint32), np.empty((count, STRIP), np.uint32)
    for chunk in range(first, last):
        t, start, stop = chunks[chunk, 0], chunks[chunk, 1], chunks[chunk, 2]
        weight, factor = filled(zeros, weights[t]), filled(zeros, factors[t])
        key0, share = filled(bits, keys[t, :, 0]), filled(bits, shares[t])
        while start < stop:
            # A strip ends at a bound, so that on all of it the same magnitudes stay: low <= bits < low + span.
            n = _within(start, min(longest, stop - start), bounds[t])
            for k in range(count):
                low = cuts[t, k, 0] + (np.uint32(0) if start < bounds[t, k, 0] else np.uint32(1))
                high = cuts[t, k, 1] + (np.uint32(0) if start < bounds[t, k, 1] else np.uint32(1))
                numbers[0, k] = low
                numbers[1, k] = max(high, low) - low
                numbers[2, k] = second_key(keys[t, k, 1], start)
                if len(rule) == 3:
                    unpack(masks[t, k], start, n, kept[k])
            low, span, key1 = filled(bits, numbers[0]), filled(bits, numbers[1]), filled(bits, numbers[2])
            own = (low, span, key0, key1, share, kept, factor, weight, scales[t])
            x = opened(form, like, inputs[t], codes[t], start, n, strips)
            to = outs[t] + 2 * start if len(form) == 1 else np.int64(out.ctypes.data)
            _sum(form, x, (np.float32(0), *zeros), np.uint32(start), n, rule, vote, own, to)
            if len(form) == 2:
                encode(out, n, outs[t], out_codes[t], start)
            start += n

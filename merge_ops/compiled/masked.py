"""Kernels of masked task-vector sums: mask, rescale, weigh, elect signs, sum, divide, in one pass over memory."""

from __future__ import annotations

import numpy as np

from .hashes import mixed, second_key
from .ranked import DIGITS, rank_thresholds
from .strips import STRIP, compiled, decode, encode, filled, subtract

# What masks go by, and what happens to the sum, are told by lengths of tuples, which are part of numba's types: each
# combination has a kernel of its own, without branches in its loop.
MAGNITUDE, HASH, RANK = ((0,) * n for n in (1, 2, 3))
SUM, AVERAGE, ELECT, ELECT_AND_DIVIDE = ((0,) * n for n in (1, 2, 3, 4))


@compiled
def _sum(x, base, start, n, rule, vote, cut, last, top, top_last, key0, key1, share, table, factor, weight, scale, out):  # noqa: ANN001, ANN202, E501
    for e in range(n):
        total = np.float32(0)
        kept = np.float32(0)
        own = base[e]
        for k in range(len(weight)):
            d = np.float32(x[k, e] - own)
            if len(rule) == 1:
                bits = np.uint32(d.view(np.uint32) & np.uint32(0x7FFFFFFF))
                keep = (bits > cut[k]) | ((bits == cut[k]) & (np.uint32(e) < last[k]))
                keep &= (bits < top[k]) | ((bits == top[k]) & (np.uint32(e) >= top_last[k]))
            elif len(rule) == 2:
                keep = np.uint32(mixed(np.uint32(start + np.uint32(e)), key0[k], key1[k]) >> np.uint32(16)) < share[k]
            else:
                hashed = mixed(np.uint32(start + np.uint32(e)), key0[k], key1[k])
                keep = np.uint32(hashed >> np.uint32(16)) < table[k, e]
            mask = np.float32(keep)
            # Multiplied, not chosen: the sign of a zero is that of the reference.
            d = np.float32(np.float32(np.float32(d * mask) * factor[k]) * weight[k])
            x[k, e] = d
            total = d if k == 0 else np.float32(total + d)
            kept = np.float32(kept + mask)
        if len(vote) == 2:
            total = np.float32(total / (kept if kept > np.float32(1) else np.float32(1)))
        elif len(vote) > 2:
            positive = total >= np.float32(0)
            total = np.float32(0)
            divisor = np.float32(0)
            for k in range(len(weight)):
                d = x[k, e]
                agrees = np.float32((positive & (d > np.float32(0))) | ((not positive) & (d < np.float32(0))))
                total = np.float32(d * agrees) if k == 0 else np.float32(total + np.float32(d * agrees))
                if len(vote) == 4:
                    counted = np.float32(agrees * weight[k])
                    divisor = counted if k == 0 else np.float32(divisor + counted)
            if len(vote) == 4:
                total = np.float32(total / (divisor if divisor != np.float32(0) else np.float32(1)))
        out[e] = np.float32(np.float32(total * scale) + own)


@compiled
def masked_sum(chunks, first, last, outs, out_codes, inputs, codes, rule, vote, zeros, bits, cuts, bounds, keys, shares, factors, weights, scales):  # noqa: ANN001, ANN201, E501
    """Chunks [first, last) of (tensor, start, stop); the base is the first input. `rule` is MAGNITUDE or HASH.

    Per tensor and source: `cuts` (T, K, 2) uint32, magnitudes as float32 bits from which on and up to which elements
    stay, and `bounds` (T, K, 2) int64, the index below which elements equal to the one stay, and those equal to the
    other go; `keys` (T, K, 2) and `shares` (T, K) uint32 for hashes; `factors` and `weights` (T, K), `scales` (T,)
    float32. `zeros` and `bits` are tuples of K float32 and uint32, for their types.
    """
    count = len(zeros)
    base, out = np.empty(STRIP, np.float32), np.empty(STRIP, np.float32)
    x, within = np.empty((count, STRIP), np.float32), np.empty((3, count), np.uint32)
    table = np.empty((count, 1), np.uint32)
    for chunk in range(first, last):
        t, stop = chunks[chunk, 0], chunks[chunk, 2]
        weight, factor = filled(zeros, weights[t]), filled(zeros, factors[t])
        cut, top = filled(bits, cuts[t, :, 0]), filled(bits, cuts[t, :, 1])
        key0, share = filled(bits, keys[t, :, 0]), filled(bits, shares[t])
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            decode(inputs[t, 0], codes[t, 0], start, n, base)
            for k in range(count):
                decode(inputs[t, k + 1], codes[t, k + 1], start, n, x[k])
                within[0, k] = np.uint32(max(0, min(bounds[t, k, 0] - start, n)))
                within[1, k] = np.uint32(max(0, min(bounds[t, k, 1] - start, n)))
                within[2, k] = second_key(keys[t, k, 1], start)
            low, high, key1 = filled(bits, within[0]), filled(bits, within[1]), filled(bits, within[2])
            _sum(x, base, np.uint32(start), n, rule, vote, cut, low, top, high, key0, key1, share, table, factor, weight, scales[t], out)  # noqa: E501
            encode(out, n, outs[t], out_codes[t], start)


@compiled
def ranked_sum(chunks, first, last, outs, out_codes, inputs, codes, rule, vote, zeros, bits, keys, levels, length, factors, weights, scales):  # noqa: ANN001, ANN201, E501
    """As `masked_sum`, for one tensor whose chunks are whole rows of `length`; `levels` (K, length) uint32 by rank."""
    count = len(zeros)
    base, out = np.empty(length, np.float32), np.empty(length, np.float32)
    delta, x = np.empty(length, np.float32), np.empty((count, length), np.float32)
    table, seconds = np.empty((count, length), np.uint32), np.empty(count, np.uint32)
    pairs, order, counts = (
        np.empty((2, length), np.uint32),
        np.empty((2, length), np.uint32),
        np.empty((3, DIGITS), np.uint32),
    )
    weight, factor = filled(zeros, weights[0]), filled(zeros, factors[0])
    key0 = filled(bits, keys[0, :, 0])
    for chunk in range(first, last):
        for start in range(chunks[chunk, 1], chunks[chunk, 2], length):
            decode(inputs[0, 0], codes[0, 0], start, length, base)
            for k in range(count):
                decode(inputs[0, k + 1], codes[0, k + 1], start, length, x[k])
                delta[:] = x[k]
                subtract(delta, base, length)
                rank_thresholds(delta, length, levels[k], pairs, order, counts, table[k])
                seconds[k] = second_key(keys[0, k, 1], start)
            key1 = filled(bits, seconds)
            _sum(x, base, np.uint32(start), length, rule, vote, key0, key0, key0, key0, key0, key1, key0, table, factor, weight, scales[0], out)  # noqa: E501
            encode(out, length, outs[0], out_codes[0], start)

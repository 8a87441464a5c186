"""Kernels of methods that are neither linear combinations nor masked sums; the base is the first input."""

from __future__ import annotations

import numpy as np

from .load_store import STRIP, compiled, decode, encode, filled

NEARSWAP, RAM, CONSENSUS, FUSION = ((0,) * n for n in (1, 2, 3, 4))  # see masked.py


@compiled
def _rule(x, own, n, rule, factors, p, out):
    for e in range(n):
        base = own[e]
        if len(rule) == 1:  # p: t
            distance = np.float32(abs(np.float32(base - x[0, e])))
            distance = distance if distance > np.float32(1e-6) else np.float32(1e-6)
            share = np.float32(p[0] / distance)
            share = share if share < np.float32(1) else np.float32(1)
            share = share if share > np.float32(0) else np.float32(0)
            out[e] = np.float32(np.float32(x[0, e] * share) + np.float32(base * np.float32(np.float32(1) - share)))
        elif len(rule) == 2:  # p: epsilon, scale; factors: of what one source alone moved
            count = np.float32(0)
            for k in range(len(factors)):
                count += np.float32(np.float32(abs(np.float32(x[k, e] - base))) > p[0])
            shared = np.float32(np.float32(1) / (count if count > np.float32(1) else np.float32(1)))
            total = np.float32(0)
            for k in range(len(factors)):
                d = np.float32(x[k, e] - base)
                moved = np.float32(np.float32(abs(d)) > p[0])
                term = np.float32(np.float32(d * moved) * (factors[k] if count == np.float32(1) else shared))
                total = term if k == 0 else np.float32(total + term)
            out[e] = np.float32(np.float32(total * p[1]) + base)
        elif len(rule) == 3:  # p: threshold, agreement, scale
            total = np.float32(0)
            for k in range(len(factors)):
                d = np.float32(x[k, e] - base)
                total = d if k == 0 else np.float32(total + d)
            needed = np.float32(0)
            for k in range(len(factors)):
                d = np.float32(x[k, e] - base)
                others = np.float32(np.float32(abs(np.float32(total - d))) * p[0])
                needed += np.float32(np.float32(abs(d)) > others)
            out[e] = np.float32(np.float32(np.float32(total * np.float32(needed >= p[1])) * p[2]) + base)
        else:  # p: threshold, divergence of the row
            d = np.float32(x[0, e] - base)
            counts = np.float32(np.float32(np.float32(abs(d)) * p[1]) >= p[0])
            out[e] = np.float32(base + np.float32(d * counts))


@compiled
def elementwise(chunks, first, last, outs, out_codes, inputs, codes, rule, zeros, factors, parameters, rows, length):
    """Chunks [first, last) of one tensor. `rule` is one of the above, `factors` (K,) and `parameters` (P,) float32.

    `rows` (R,) float32 replace the second parameter in every row of `length` elements, and chunks end with rows (0: not
    by rows).
    """
    count = len(zeros)
    step = length if length > 0 else STRIP
    own, out = np.empty(step, np.float32), np.empty(step, np.float32)
    x, p = np.empty((count, step), np.float32), parameters.copy()
    shares = filled(zeros, factors)
    for chunk in range(first, last):
        stop = chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, step):
            n = min(step, stop - start)
            if length > 0:
                p[1] = rows[start // length]
            decode(inputs[0, 0], codes[0, 0], start, n, own)
            for k in range(count):
                decode(inputs[0, k + 1], codes[0, k + 1], start, n, x[k])
            _rule(x, own, n, rule, shares, p, out)
            encode(out, n, outs[0], out_codes[0], start)


@compiled
def moved_counts(chunks, first, last, inputs, codes, epsilon, found):
    """Adds to `found`, (K, 2) int64, the elements that a source moved alone, and those it moved with others."""
    count = len(inputs) - 1
    own, x = np.empty(STRIP, np.float32), np.empty((count, STRIP), np.float32)
    for chunk in range(first, last):
        stop = chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            decode(inputs[0], codes[0], start, n, own)
            for k in range(count):
                decode(inputs[k + 1], codes[k + 1], start, n, x[k])
            for e in range(n):
                moved = 0
                for k in range(count):
                    moved += np.float32(abs(np.float32(x[k, e] - own[e]))) > epsilon
                for k in range(count):
                    if np.float32(abs(np.float32(x[k, e] - own[e]))) > epsilon:
                        found[k, 0 if moved == 1 else 1] += 1

"""The kernels of SCE: elements are selected by their variance over the sources, sources weighed by their energies."""

from __future__ import annotations

import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem

from .gram_kernels import halved
from .load_store import STRIP, compiled, encode, filled, number, opened, put
from .magnitudes import magnitude, values_at

ROWS = 16  # that a chunk of energies is cut into: the first four halvings need no memory


@compiled
def _selected(x, e, cut, limit):
    """1 where the variance over the sources, from the second of `x` on, is above `cut`, or equal and e < limit."""
    bits = magnitude(x) if len(x) > 2 else np.uint32(0)
    return np.float32((bits > cut) | ((bits == cut) & (np.uint32(e) < limit)))


@compiled
def _select(form, like, x, n, cut, limit, selected):
    for e in range(n):
        selected[e] = _selected(values_at(form, like, x, e), e, cut, limit)


@compiled
def _squares(form, base, source, n, selected, terms):
    for e in range(n):
        d = np.float32(number(form, source, e) - number(form, base, e))
        value = np.float64(np.float32(d * selected[e]))
        terms[e] = value * value


@compiled
def _fold(terms, others, n):
    for e in range(n):
        terms[e] += others[e]


@compiled
def energies(chunks, first, last, inputs, codes, form, like, at, cut, bound, sums):
    """Per chunk and source, in `sums` (chunks, K) float64: the squares of the selected elements of its task vector.

    `at` is a tuple of K + 1 int64, `like` one of float32, for their types; `form` as in `masked_sum`.
    """
    count = len(like) - 1
    selected, strips = np.empty(STRIP, np.float32), np.empty((count + 1, STRIP), np.float32)
    size = np.int64(1)
    for chunk in range(first, last):
        size = max(size, chunks[chunk, 2] - chunks[chunk, 1])
    terms, lanes = (
        np.empty((count, ROWS, STRIP), np.float64),
        np.empty((count, max(ROWS, 4 * size // ROWS)), np.float64),
    )
    for chunk in range(first, last):
        begin, stop, width = chunks[chunk, 1], chunks[chunk, 2], np.int64(1)
        while width < stop - begin:
            width *= 2
        rows = min(ROWS, width)
        width //= rows
        for lane in range(0, width, STRIP):
            n = min(STRIP, width - lane)
            for row in range(rows):
                start = begin + row * width + lane
                inside = max(0, min(n, stop - start))
                if inside:
                    x = opened(form, at, inputs, codes, start, inside, strips)
                    limit = np.uint32(max(0, min(inside, bound - start)))
                    _select(form, like, x, inside, cut, limit, selected)
                    for k in range(count):
                        _squares(form, x[0], x[k + 1], inside, selected, terms[k, row])
                terms[:, row, inside:n] = 0.0
            for k in range(count):
                half = rows // 2
                while half:
                    for row in range(half):
                        _fold(terms[k, row], terms[k, row + half], n)
                    half //= 2
                lanes[k, lane : lane + n] = terms[k, 0, :n]
        for k in range(count):
            sums[chunk, k] = halved(lanes[k], width)


@compiled
def _merged(x, e, cut, limit, shares, scale):
    kept = _selected(x, e, cut, limit)
    deltas = shares
    votes = np.float32(0)
    for k in range(len(shares)):
        d = np.float32(np.float32(x[k + 1] - x[0]) * kept)
        deltas = tuple_setitem(deltas, k, d)  # pyright: ignore[reportCallIssue] - an intrinsic
        votes = d if k == 0 else np.float32(votes + d)
    positive = votes >= np.float32(0)
    total = np.float32(0)
    divisor = np.float32(0)
    for k in range(len(shares)):
        d = deltas[k]
        agrees = np.float32((positive & (d > np.float32(0))) | ((not positive) & (d < np.float32(0))))
        share = np.float32(agrees * shares[k])
        divisor = share if k == 0 else np.float32(divisor + share)
        total = np.float32(d * share) if k == 0 else np.float32(total + np.float32(d * share))
    divisor = divisor if divisor > np.float32(1e-6) else np.float32(1e-6)
    return np.float32(np.float32(np.float32(total / divisor) * scale) + x[0])


@compiled
def _merge(form, like, x, n, cut, limit, shares, scale, out):
    for e in range(n):
        put(form, _merged(values_at(form, like, x, e), e, cut, limit, shares, scale), out, e)


@compiled
def sce(chunks, first, last, outs, out_codes, inputs, codes, form, like, at, zeros, cut, bound, factors, scale):
    """Chunks [first, last) of one tensor; `factors` (K,) float32 are the sources' shares of the energy.

    `cut` and `bound` are those of the variance (see `masks.Cut`), `zeros` a tuple of K float32, others as in
    `energies`.
    """
    out, strips = np.empty(STRIP, np.float32), np.empty((len(like), STRIP), np.float32)
    shares = filled(zeros, factors)
    for chunk in range(first, last):
        stop = chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            x = opened(form, at, inputs, codes, start, n, strips)
            to = outs[0] + 2 * start if len(form) == 1 else np.int64(out.ctypes.data)
            limit = np.uint32(max(0, min(n, bound - start)))
            _merge(form, like, x, n, cut, limit, shares, scale, to)
            if len(form) == 2:
                encode(out, n, outs[0], out_codes[0], start)

"""The kernels of SCE: select elements by their variance, calculate the sources' energies, erase minority signs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem

from ....methods.sce import NO_DIVISOR, energy_shares
from ....numerics.reductions import CHUNK, sum_of_chunks
from ...job import TensorJob
from ...mask_cuts import KEEP_ALL, KEEP_NONE, Cut
from ...method_kernels import MethodKernel
from ..gram_kernels import halved
from ..launch import addresses, all_bfloat16, chunks_of, codes, run
from ..load_store import DIRECT, STRIP, STRIPS, compiled, element, encode, filled, inlined, likes, opened, put
from ..magnitudes.pending_cuts import resolve_all
from ..magnitudes.table import MagnitudeTable
from ..magnitudes.values import magnitude, values_at

ROWS = 16  # rows into which a chunk of energies is cut, so that the first four halvings stay in the cache
LEAST_DIVISOR = np.float32(NO_DIVISOR)


@compiled
def _selected(x, e, cut, limit):
    """Return 1 if the variance over the sources of `x` (base first) is above `cut`, or equal to it and e < limit."""
    bits = magnitude(x) if len(x) > 2 else np.uint32(0)
    return np.float32((bits > cut) | ((bits == cut) & (np.uint32(e) < limit)))


@compiled
def _select(access, like, x, n, cut, limit, selected):
    for e in range(n):
        selected[e] = _selected(values_at(access, like, x, e), e, cut, limit)


@compiled
def _squares(access, base, source, n, selected, terms):
    for e in range(n):
        d = np.float32(element(access, source, e) - element(access, base, e))
        value = np.float64(np.float32(d * selected[e]))
        terms[e] = value * value


@compiled
def _fold(terms, others, n):
    for e in range(n):
        terms[e] += others[e]


@inlined
def _row_squares(inputs, codes, access, like, at, start, n, stop, cut, bound, selected, strips, terms, row):
    """Write the squares of n elements from `start` on to `terms[:, row]`, (K, n) float64; 0 from `stop` on."""
    inside = max(0, min(n, stop - start))
    if inside:
        x = opened(access, at, inputs, codes, start, inside, strips)
        limit = np.uint32(max(0, min(inside, bound - start)))
        _select(access, like, x, inside, cut, limit, selected)
        for k in range(len(like) - 1):
            _squares(access, x[0], x[k + 1], inside, selected, terms[k, row])
    terms[:, row, inside:n] = 0.0


@compiled
def _fold_rows(terms, rows, n):
    """Halve `terms` (rows, n) until the sums are in the first row: the first levels of `reductions.row_sums`' tree."""
    half = rows // 2
    while half:
        for row in range(half):
            _fold(terms[row], terms[row + half], n)
        half //= 2


@compiled
def energies(chunks, first, last, inputs, codes, access, like, at, cut, bound, sums):
    """Write, per chunk and source, the sum of squares of the selected elements to `sums` (chunks, K) float64.

    The order of the additions is that of `reductions.row_sums`: the second half of a chunk is added to the first until
    one sum is left. The types of `at` and `like`, tuples of K + 1 int64 and float32, specialize the kernel.
    """
    count = len(like) - 1
    selected, strips = np.empty(STRIP, np.float32), np.empty((count + 1, STRIP), np.float32)
    size = np.int64(1)
    for chunk in range(first, last):
        size = max(size, chunks[chunk, 2] - chunks[chunk, 1])
    terms = np.empty((count, ROWS, STRIP), np.float64)
    lanes = np.empty((count, max(ROWS, 4 * size // ROWS)), np.float64)
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
                _row_squares(inputs, codes, access, like, at, start, n, stop, cut, bound, selected, strips, terms, row)
            for k in range(count):
                _fold_rows(terms[k], rows, n)
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
    # sum_k s_k e_k T_k / sum_k s_k e_k of the method's formula, e_k = 1 if T_k has the sign of the sum.
    positive = votes >= np.float32(0)
    total = np.float32(0)
    divisor = np.float32(0)
    for k in range(len(shares)):
        d = deltas[k]
        agrees = np.float32((positive & (d > np.float32(0))) | ((not positive) & (d < np.float32(0))))
        share = np.float32(agrees * shares[k])
        divisor = share if k == 0 else np.float32(divisor + share)
        total = np.float32(d * share) if k == 0 else np.float32(total + np.float32(d * share))
    divisor = divisor if divisor > LEAST_DIVISOR else LEAST_DIVISOR
    return np.float32(np.float32(np.float32(total / divisor) * scale) + x[0])


@compiled
def _merge_strip(access, like, x, n, cut, limit, shares, scale, out):
    for e in range(n):
        put(access, _merged(values_at(access, like, x, e), e, cut, limit, shares, scale), out, e)


@compiled
def sce(chunks, first, last, out, out_code, inputs, codes, access, like, at, zeros, cut, bound, factors, scale):
    """Merge chunks [first, last) of one tensor; `factors` (K,) float32 are the sources' shares of the energy.

    `cut` and `bound` are the fields of the variance's `mask_cuts.Cut`. The type of `zeros`, a tuple of K float32,
    specializes the kernel; the other arguments are those of `energies`.
    """
    strip, strips = np.empty(STRIP, np.float32), np.empty((len(like), STRIP), np.float32)
    shares = filled(zeros, factors)
    for chunk in range(first, last):
        stop = chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            x = opened(access, at, inputs, codes, start, n, strips)
            to = out + 2 * start if access == DIRECT else np.int64(strip.ctypes.data)
            limit = np.uint32(max(0, min(n, bound - start)))
            _merge_strip(access, like, x, n, cut, limit, shares, scale, to)
            if access == STRIPS:
                encode(strip, n, out, out_code, start)


def _cut(job: TensorJob, share: float) -> Cut:
    """Return the cut of the variances: the elements above it are selected."""
    if share >= 1.0:
        return KEEP_ALL
    if len(job.sources) == 1:  # the variance over one source is 0
        return KEEP_NONE
    tensors = job.base_and_sources
    table = job.remember_all("variances", lambda: MagnitudeTable(tensors))
    (cut,) = resolve_all([table.select(int(table.nonzero(tensors) * share), tensors)])
    return cut


def _merge(jobs: Sequence[TensorJob]) -> None:
    for job in jobs:
        share, scale = job.method_values
        cut, tensors, size = _cut(job, share), job.base_and_sources, job.out.numel()
        inputs, kinds, (like, at) = addresses(tensors), codes(tensors), likes(len(tensors))
        access = DIRECT if all_bfloat16(tensors, job.out) else STRIPS
        limits, chunks = (np.uint32(cut.bits), np.int64(cut.bound)), chunks_of([size], CHUNK)
        sums = np.empty((len(chunks), len(job.sources)), np.float64)
        run(energies, chunks, inputs, kinds, access, like, at, *limits, sums)
        shares = energy_shares([sum_of_chunks(column) / size for column in sums.T.tolist()])
        (out,), (out_code,) = addresses([job.out]), codes([job.out])
        factors = np.array(shares, np.float32), np.float32(scale)
        run(sce, chunks_of([size]), out, out_code, inputs, kinds, access, like, at, like[1:], *limits, *factors)


KERNEL = MethodKernel(_merge)

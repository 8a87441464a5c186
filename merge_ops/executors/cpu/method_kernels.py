"""Methods with kernels of their own: what they need to know of the inputs, and the launch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...methods.arcee_fusion import importance
from ...methods.ram import unique_scales
from ...methods.sce import energy_shares
from ...numerics.reductions import CHUNK, sum_of_chunks
from ..job import TensorJob
from ..mask_cuts import EVERYTHING, NOTHING
from .elementwise import CONSENSUS, FUSION, NEARSWAP, RAM, elementwise, moved_counts
from .launch import addresses, all_bfloat16, chunks_of, codes, parallel, run
from .load_store import BFLOAT16, STRIPS, likes
from .magnitude_table import MagnitudeTable
from .pending_cuts import answers
from .sce import energies, sce

ParameterValues = tuple[float, ...]


def _launch(
    work: TensorJob,
    rule: tuple[int, ...],
    parameters: ParameterValues,
    *,
    factors: ParameterValues | None = None,
    rows: np.ndarray | None = None,
) -> None:
    based, outs = work.based, (work.out,)
    count, size = len(based) - 1, work.out.numel()
    length = 0 if rows is None else size // len(rows)
    run(
        elementwise,
        chunks_of([size]) if rows is None else chunks_of([size], max(1, CHUNK // 4 // length) * length),
        addresses(outs),
        codes(outs),
        addresses(based)[None],
        codes(based)[None],
        rule,
        (np.float32(0),) * count,
        np.array(factors or (1.0,) * count, np.float32),
        np.array(parameters, np.float32),
        np.zeros(1, np.float32) if rows is None else rows,
        length,
    )


def _nearswap(work: TensorJob, numbers: ParameterValues) -> None:
    _launch(work, NEARSWAP, numbers)


def _consensus(work: TensorJob, numbers: ParameterValues) -> None:
    _launch(work, CONSENSUS, numbers)


def _ram(work: TensorJob, numbers: ParameterValues) -> None:
    epsilon, r, alpha, factor = numbers
    based = work.based

    def count() -> np.ndarray:
        at, kinds, chunks = addresses(based), codes(based), chunks_of([work.out.numel()])

        def part(first: int, last: int) -> np.ndarray:
            found = np.zeros((len(based) - 1, 2), np.int64)
            moved_counts(chunks, first, last, at, kinds, np.float32(epsilon), found)
            return found

        return np.sum(parallel(part, chunks), axis=0)

    counts = None
    if r:
        # One answer is kept: epsilon may be searched.
        known = work.remember((work.base or 0, *work.sources), "moved", dict)
        if epsilon not in known:
            found = count()
            known.clear()
            known[epsilon] = found
        counts = known[epsilon]
    scales = (1.0,) * (len(based) - 1) if counts is None else unique_scales(counts.tolist(), epsilon, r, alpha)
    _launch(work, RAM, (epsilon, factor), factors=scales)


def _fusion(work: TensorJob, _numbers: ParameterValues) -> None:
    own, other = work.based
    rows, threshold = work.remember((work.base or 0, *work.sources), "importance", lambda: importance(own, other))
    _launch(work, FUSION, (threshold, 0.0), rows=rows.numpy().reshape(-1))


def _sce(work: TensorJob, numbers: ParameterValues) -> None:
    share, scale = numbers
    based, size = work.based, work.out.numel()
    cut = EVERYTHING
    if share < 1.0 and len(based) == 2:  # one source has no variance
        cut = NOTHING
    elif share < 1.0:
        table = work.remember((work.base or 0, *work.sources), "variances", lambda: MagnitudeTable(based))
        (cut,) = answers([table.ask(int(table.nonzero(based) * share), based)])
    inputs, kinds, (like, at) = addresses(based), codes(based), likes(len(based))
    form = BFLOAT16 if all_bfloat16(based, work.out) else STRIPS
    edge, chunks = (np.uint32(cut.bits), np.int64(cut.bound)), chunks_of([size], CHUNK)
    sums = np.empty((len(chunks), len(based) - 1), np.float64)
    run(energies, chunks, inputs, kinds, form, like, at, *edge, sums)
    shares = energy_shares([sum_of_chunks(own) / size for own in sums.T.tolist()])
    own = (*edge, np.array(shares, np.float32), np.float32(scale))
    out = addresses([work.out]), codes([work.out])
    run(sce, chunks_of([size]), *out, inputs, kinds, form, like, at, like[1:], *own)


KERNELS: dict[str, Callable[[TensorJob, ParameterValues], None]] = {
    "nearswap": _nearswap,
    "ram": _ram,
    "consensus": _consensus,
    "arcee_fusion": _fusion,
    "sce": _sce,
}

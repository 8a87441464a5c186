"""The kernels of SCE: select elements by their variance, calculate the sources' energies, erase minority signs."""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import triton
import triton.language as tl

from ....methods.sce import NO_DIVISOR, energy_shares
from ....numerics.reductions import CHUNK, chunked_sum, row_sums, sum_of_chunks
from ...job import TensorJob
from ...method_kernels import MethodKernel
from ..elementwise import INTEGERS, job_addresses, run_elementwise, task_vectors
from ..launch import EXACT, aligned, codes
from ..load_store import kernel, load
from ..magnitudes.pending_cuts import CutRequest, resolve_all
from ..magnitudes.table import MagnitudeTable
from ..magnitudes.values import Inputs, from_cut, variance

LANES = 1 << 14  # a chunk of `reductions.CHUNK` elements is 16 rows of them, which `energies` adds to one
ENERGY_BLOCK = 256  # elements at a time of `energies`, whose sums in float64 fill the registers
CHUNKS_AT_ONCE = 256  # chunks of a tensor whose energies are halved at a time: 32 MiB of sums per source
_LANES = tl.constexpr(LANES)
_LEAST_DIVISOR = tl.constexpr(NO_DIVISOR)


@kernel
def _weighted(deltas, kept, parameters, COUNT: tl.constexpr):
    # sum_k s_k e_k T_k / sum_k s_k e_k of the method's formula, e_k = 1 if T_k has the sign of the sum.
    votes = deltas[0] * kept
    for k in tl.static_range(1, COUNT):
        votes += deltas[k] * kept
    positive = votes >= 0.0
    total, divisor = votes, votes  # only for their types: the first source replaces them
    for k in tl.static_range(COUNT):
        d = deltas[k] * kept
        agrees = (positive & (d > 0.0)) | ((positive == 0) & (d < 0.0))
        share = agrees.to(tl.float32) * tl.load(parameters + 1 + k)
        divisor = share if k == 0 else divisor + share
        total = d * share if k == 0 else total + d * share
    return tl.div_rn(total, tl.maximum(divisor, _LEAST_DIVISOR)) * tl.load(parameters)


@kernel
def sce(base, sources, integers, parameters, first, lanes, inside, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    """The rule of `elementwise` that selects all elements; `parameters`: factor of the sum, shares of the energy."""
    deltas = task_vectors(sources, base, COUNT)
    return _weighted(deltas, tl.full(base.shape, 1.0, tl.float32), parameters, COUNT) + base


@kernel
def sce_on_cut(base, sources, integers, parameters, first, lanes, inside, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    """As `sce`, on the elements of largest variance; `integers`: magnitude bits and bound of the cut."""
    deltas = task_vectors(sources, base, COUNT)
    kept = from_cut(variance(deltas, COUNT), integers, first, lanes, BLOCK).to(tl.float32)
    return _weighted(deltas, kept, parameters, COUNT) + base


@kernel
def _square(
    addresses,
    cut,
    source,
    first,
    lanes,
    stop,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    offsets = first + lanes
    inside = offsets < stop
    base = load(tl.load(addresses), offsets, inside, CODES, 0, ALIGNED, True)
    deltas = ()
    chosen = base
    for k in tl.static_range(COUNT):
        d = load(tl.load(addresses + 1 + k), offsets, inside, CODES, k + 1, ALIGNED, True) - base
        deltas = deltas + (d,)
        chosen = tl.where(source == k, d, chosen)
    kept = from_cut(variance(deltas, COUNT), cut, first, lanes, BLOCK).to(tl.float32)
    value = (chosen * kept).to(tl.float64)
    return value * value


@kernel
def energies(
    addresses,
    cut,
    size,
    first_chunk,
    sums,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Sum the squares of one tensor's task vectors on the elements of largest variance.

    These are the first halvings of the tree of `reductions.row_sums`. Programs: (source, block of lanes, chunk).
    `addresses` (1 + K,) int64: base, sources; `cut` (2,) int64: magnitude bits, bound; `sums` (chunks, K, LANES)
    float64, zeros before.
    """
    source = tl.program_id(0)
    lanes = tl.arange(0, BLOCK)
    lane = tl.program_id(1) * BLOCK
    first = (first_chunk + tl.program_id(2)).to(tl.int64) * (16 * _LANES) + lane
    if first < size:
        total = tl.zeros([BLOCK], tl.float64)
        quad, pair = total, total
        # The tree adds row i to row i + 8, these sums to those of row + 4, and so on. A sum is formed as soon as both
        # of its terms exist, so that only one per level is in registers.
        for d in tl.range(2):  # a loop: unrolled, the squares of all sources spill out of the registers
            for c in tl.static_range(2):
                for b in tl.static_range(2):
                    at = first + (4 * b + 2 * c + d) * _LANES
                    one = _square(addresses, cut, source, at, lanes, size, CODES, COUNT, ALIGNED, BLOCK)
                    at += 8 * _LANES
                    other = _square(addresses, cut, source, at, lanes, size, CODES, COUNT, ALIGNED, BLOCK)
                    pair = one + other if b == 0 else pair + (one + other)
                quad = pair if c == 0 else quad + pair
            total = total + quad  # squares are never -0, so 0 + quad = quad
        place = (tl.program_id(2) * COUNT + source).to(tl.int64) * _LANES + lane
        tl.store(sums + place + lanes, total)


def energy_sums(inputs: Inputs, addresses: torch.Tensor, cut: torch.Tensor) -> torch.Tensor:
    """Return the sums of squares of K task vectors on the elements that a cut keeps, (chunks, K) float64.

    On the device, as are the inputs' `addresses`, (1 + K,) int64, and the magnitude bits and the bound of `cut`, int64.
    """
    size, count, parts = inputs[0].numel(), len(inputs) - 1, []
    chunks = triton.cdiv(size, CHUNK)
    for first in range(0, chunks, CHUNKS_AT_ONCE):
        some = min(CHUNKS_AT_ONCE, chunks - first)
        halves = torch.zeros((some, count, LANES), dtype=torch.float64, device=inputs[0].device)
        energies[(count, triton.cdiv(min(size, LANES), ENERGY_BLOCK), some)](
            addresses,
            cut,
            size,
            first,
            halves,
            CODES=codes(inputs),
            COUNT=count,
            ALIGNED=aligned(inputs),
            BLOCK=ENERGY_BLOCK,
            **EXACT,
        )
        parts.append(row_sums(halves))
    return torch.cat(parts)


def _supports(job: TensorJob) -> bool:
    share, _ = job.method_values
    return share >= 1.0 or len(job.sources) > 1  # one source has no variance


def _merge(jobs: Sequence[TensorJob]) -> None:
    whole = [job for job in jobs if job.method_values[0] >= 1.0]
    partial_jobs = [job for job in jobs if job.method_values[0] < 1.0]
    if whole:
        sums = [job.remember_all("energies", partial(_energies, job.base_and_sources)) for job in whole]
        run_elementwise(sce, whole, [_parameters(job, energy) for job, energy in zip(whole, sums, strict=True)])
    if partial_jobs:
        _merge_on_cuts(partial_jobs)


def _energies(inputs: Inputs) -> list[float]:
    """Return the sums of squares of whole task vectors."""
    return [
        chunked_sum([x, inputs[0]], lambda x, base: (x.float() - base.float()).double().square()) for x in inputs[1:]
    ]


def _merge_on_cuts(jobs: Sequence[TensorJob]) -> None:
    device, requests, addresses = jobs[0].out.device, [], job_addresses(jobs)
    for t, job in enumerate(jobs):
        inputs = job.base_and_sources
        variances = job.remember_all("variances", partial(MagnitudeTable, inputs))
        selection = variances.select(int(variances.nonzero * job.method_values[0]), inputs)
        requests.append(CutRequest(selection, inputs, (t, 0, 0)))
    cuts = resolve_all(requests, np.zeros((len(jobs), 1, INTEGERS), np.int64), device)
    sums = [energy_sums(job.base_and_sources, addresses[t, 1:], cuts[t]) for t, job in enumerate(jobs)]
    # The host waits for the device here, once for all jobs.
    by_job = torch.cat(sums).cpu().split([len(part) for part in sums])
    parameters = [
        _parameters(job, [sum_of_chunks(column) for column in part.t().tolist()])
        for job, part in zip(jobs, by_job, strict=True)
    ]
    run_elementwise(sce_on_cut, jobs, parameters, integers=cuts, addresses=addresses)


def _parameters(job: TensorJob, sums: Sequence[float]) -> tuple[float, ...]:
    size = job.out.numel()
    return (job.method_values[1], *energy_shares([energy / size for energy in sums]))


KERNEL = MethodKernel(_merge, _supports)

"""Runs jobs on the CPU with compiled kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...methods import AddDelta, Custom, LinearCombination, MaskedSum, RowCombination
from ...numerics.reductions import CHUNK, sum_of_chunks
from ..job import TensorJob, grouped
from ..mask_cuts import SourceMask, source_masks
from ..method_kernels import MethodKernels
from ..row_coefficients import coefficient_table, row_layout
from ..variants import MaskKind, mask_kind, row_length, vote
from . import methods
from .gram_kernels import products
from .launch import addresses, all_bfloat16, chunks_of, codes, each, run, supported
from .linear import combine, combine_mixed, combine_rows
from .load_store import Access, likes
from .magnitudes.pending_cuts import resolve_all
from .masked_sum import Factors, Masks, Tensors, masked_sum
from .task_vector_counts import TaskVectorCounts

UNROLLED = 8  # a linear combination of up to this many terms has a kernel compiled for that number
KERNELS = MethodKernels(methods)


def can_run(job: TensorJob) -> bool:
    """Return whether there is a kernel for this job's plan, dtypes, shapes and memory layouts."""
    plan, inputs = job.plan, job.inputs
    if not all(supported(x) for x in (*inputs, job.out)) or not inputs[0].numel():
        return False
    if isinstance(plan, AddDelta):
        return supported(plan.delta)
    if isinstance(plan, RowCombination):
        return row_layout(plan, tuple(job.out.shape)) is not None
    if isinstance(plan, Custom):
        return KERNELS.find(job) is not None
    if isinstance(plan, MaskedSum):
        # Rows run along dimension 1, and the key of the hash changes every 2**32 elements.
        rows = inputs[0].dim() <= 2 and inputs[0].numel() <= 1 << 32
        return bool(plan.rules) and (rows or mask_kind(plan) is not MaskKind.RANK)
    return True


def run_all(jobs: Sequence[TensorJob]) -> None:
    """Fill every job's `out`; jobs of one kernel share a launch."""
    for (launch, *_), batch in grouped(jobs, _kind).items():
        launch(batch)


def _kind(job: TensorJob) -> tuple[Any, ...]:
    """Return the function that launches the kernel, and the properties that all jobs of one launch share."""
    plan = job.plan
    if isinstance(plan, (LinearCombination, AddDelta)):
        tensors, _ = job.terms
        direct = 0 < len(tensors) <= UNROLLED and all_bfloat16(tensors, job.out)
        return (_combine, len(tensors)) if direct else (_combine_mixed,)
    if isinstance(plan, RowCombination):
        return (_combine_rows,)
    if isinstance(plan, MaskedSum):
        return (_sum_masked, mask_kind(plan), vote(plan), len(plan.rules), _access(job))
    kernel = KERNELS.find(job)
    assert kernel is not None, "Should not reach."
    return (kernel.merge,)


def _access(job: TensorJob) -> Access:
    return Access.DIRECT if all_bfloat16(job.base_and_sources, job.out) else Access.STRIPS


def _combine(jobs: Sequence[TensorJob]) -> None:
    terms, outs = [job.terms for job in jobs], [job.out for job in jobs]
    inputs = np.stack([addresses(tensors) for tensors, _ in terms])
    coefficients = np.array([factors for _, factors in terms], np.float32)
    zeros, like = likes(inputs.shape[1])
    run(combine, chunks_of([out.numel() for out in outs]), addresses(outs), inputs, coefficients, zeros, like)


def _combine_mixed(jobs: Sequence[TensorJob]) -> None:
    terms = [job.terms for job in jobs]
    most = max(1, *(len(tensors) for tensors, _ in terms))
    inputs, kinds = np.zeros((2, len(jobs), most), np.int64)
    coefficients = np.zeros((len(jobs), most), np.float32)
    for t, (tensors, factors) in enumerate(terms):
        count = len(tensors)
        inputs[t, :count], kinds[t, :count], coefficients[t, :count] = addresses(tensors), codes(tensors), factors
    counts = np.array([len(tensors) for tensors, _ in terms], dtype=np.int64)
    outs = [job.out for job in jobs]
    chunks = chunks_of([out.numel() for out in outs])
    run(combine_mixed, chunks, addresses(outs), codes(outs), inputs, kinds, counts, coefficients)


def _combine_rows(jobs: Sequence[TensorJob]) -> None:
    for job in jobs:
        assert isinstance(job.plan, RowCombination), "Should not reach."
        layout = row_layout(job.plan, tuple(job.out.shape))
        assert layout is not None, "Should not reach."
        out, inputs = (job.out,), job.inputs
        tables = addresses(out), codes(out), addresses(inputs)[None], codes(inputs)[None]
        run(combine_rows, chunks_of([job.out.numel()]), *tables, coefficient_table(job.plan), layout.inner)


def _sum_masked(jobs: Sequence[TensorJob]) -> None:
    plans = [job.plan for job in jobs if isinstance(job.plan, MaskedSum)]
    counts = [TaskVectorCounts(job) for job in jobs]  # keeps masks by rank alive while the kernel runs
    masks = each(lambda arguments: source_masks(*arguments), list(zip(jobs, plans, counts, strict=True)))
    outs, inputs = [job.out for job in jobs], [job.base_and_sources for job in jobs]
    # Plans without windows share the kernel of those with windows: their upper cuts drop nothing.
    kind = MaskKind.WINDOW if mask_kind(plans[0]) is MaskKind.LARGEST else mask_kind(plans[0])
    count = len(plans[0].rules)
    run(
        masked_sum,
        chunks_of([out.numel() for out in outs]),
        Tensors(
            addresses(outs),
            codes(outs),
            np.stack([addresses(tensors) for tensors in inputs]),
            np.stack([codes(tensors) for tensors in inputs]),
        ),
        _access(jobs[0]),
        kind,
        vote(plans[0]),
        (np.float32(0),) * count,
        (np.uint32(0),) * count,
        (0,) * (count + 1),
        _mask_tables(jobs, masks, counts, kind),
        _factor_tables(plans, masks),
    )


def _mask_tables(
    jobs: Sequence[TensorJob],
    masks: Sequence[Sequence[SourceMask]],
    counts: Sequence[TaskVectorCounts],
    kind: MaskKind,
) -> Masks:
    shape = (len(jobs), len(masks[0]))
    words = np.zeros(shape, np.int64)
    if kind is MaskKind.RANK:
        words[:] = [_bitmaps(*arguments) for arguments in zip(jobs, masks, counts, strict=True)]
    cuts = resolve_all([cut for sources in masks for mask in sources for cut in (mask.low, mask.high)])
    return Masks(
        np.array([cut.bits for cut in cuts], np.uint32).reshape(*shape, 2),
        np.array([cut.bound for cut in cuts], np.int64).reshape(*shape, 2),
        np.array([[mask.key for mask in sources] for sources in masks], np.uint32),
        np.array([[mask.share for mask in sources] for sources in masks], np.uint32),
        words,
    )


def _bitmaps(job: TensorJob, masks: Sequence[SourceMask], counts: TaskVectorCounts) -> list[int]:
    """Return the addresses of one job's masks by rank; `counts` owns their memory."""
    length, pointers = row_length(job.out), []
    for position, mask in enumerate(masks):
        levels = np.full(length, mask.share, np.uint32) if mask.levels is None else mask.levels
        words, _ = counts.mask_by_rank(position, mask.key, levels)
        pointers.append(words.ctypes.data)
    return pointers


def _factor_tables(plans: Sequence[MaskedSum], masks: Sequence[Sequence[SourceMask]]) -> Factors:
    weights = [[rule.weight for rule in plan.rules] for plan in plans]
    deltas = [
        [mask.factor * weight for mask, weight in zip(*pair, strict=True)] for pair in zip(masks, weights, strict=True)
    ]
    sums = [plan.factor for plan in plans]
    return Factors(np.array(deltas, np.float32), np.array(weights, np.float32), np.array(sums, np.float32))


def gram_matrix(tensors: Sequence[torch.Tensor], base: torch.Tensor | None = None) -> np.ndarray:
    """Return `reductions.gram_matrix(tensors, base)`, (N, N) float64, with the same bits."""
    operands = tensors if base is None else (*tensors, base)
    inputs, kinds, chunks = addresses(operands), codes(operands), chunks_of([tensors[0].numel()], CHUNK)
    size = len(tensors)
    gram = np.empty((size, size))
    for i in range(size):
        for j in range(i, size):
            sums = np.empty(len(chunks))
            run(products, chunks, inputs, kinds, i, j, -1 if base is None else size, sums)
            gram[i, j] = gram[j, i] = sum_of_chunks(sums.tolist())
    return gram

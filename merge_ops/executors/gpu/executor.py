"""Runs jobs on a CUDA device with Triton kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import triton

from ...methods import AddDelta, Custom, LinearCombination, MaskedSum, RowCombination
from ..job import TensorJob, grouped
from ..mask_cuts import source_masks
from ..method_kernels import MethodKernels
from ..row_coefficients import coefficient_table, row_layout
from ..variants import MaskKind, mask_kind, vote
from . import methods
from .launch import BLOCK, EXACT, aligned, chunk_table, codes, on, supported, table, upload
from .linear import combine, combine_rows
from .magnitudes.pending_cuts import CutRequest, resolve_all
from .masked_sum import INTEGERS, masked_sum
from .task_vector_counts import TaskVectorCounts

JOBS_PER_LAUNCH = 32  # the device starts on them while the host prepares the next
# In tensors for masked sums and method kernels: indices fit 32 bits, and the key of the hash does not change.
MOST_ELEMENTS = 1 << 32
KERNELS = MethodKernels(methods)


def can_run(job: TensorJob) -> bool:
    """Return whether there is a kernel for this job's plan, dtypes, shapes and memory layouts."""
    plan, size, device = job.plan, job.out.numel(), job.out.device
    if not size or not all(supported(x, device) for x in (*job.inputs, job.out)):
        return False
    if isinstance(plan, AddDelta):
        return supported(plan.delta, device)
    if isinstance(plan, RowCombination):
        return row_layout(plan, tuple(job.out.shape)) is not None
    if isinstance(plan, MaskedSum):
        rows = job.out.dim() <= 2 or mask_kind(plan) is not MaskKind.RANK  # rows run along dimension 1
        return bool(plan.rules) and size <= MOST_ELEMENTS and rows
    if isinstance(plan, Custom):
        return size < MOST_ELEMENTS and KERNELS.find(job) is not None
    return True


def run_all(jobs: Sequence[TensorJob]) -> None:
    """Fill every job's `out`; jobs of one kernel share launches. Returns before the device is done."""
    for (launch, device, *_), batch in grouped(jobs, _kind).items():
        with on(device):
            for start in range(0, len(batch), JOBS_PER_LAUNCH):
                launch(batch[start : start + JOBS_PER_LAUNCH])


def _kind(job: TensorJob) -> tuple[Any, ...]:
    """Return the function that launches the kernel, the device, and what all jobs of one launch have in common."""
    plan, device = job.plan, job.out.device
    if isinstance(plan, (LinearCombination, AddDelta)):
        tensors = (job.out, *job.terms[0])
        return (_combine, device, len(tensors), codes(tensors), aligned(tensors))
    if isinstance(plan, RowCombination):
        return (_combine_rows, device)
    tensors = (job.out, *job.base_and_sources)
    if isinstance(plan, Custom):
        kernel = KERNELS.find(job)
        assert kernel is not None, "Should not reach."
        return (kernel.merge, device, len(tensors), codes(tensors), aligned(tensors))
    assert isinstance(plan, MaskedSum), "Should not reach."
    return (_sum_masked, device, len(tensors), codes(tensors), aligned(tensors), mask_kind(plan), vote(plan))


def _combine(jobs: Sequence[TensorJob]) -> None:
    terms = [job.terms for job in jobs]
    tensors = [(job.out, *inputs) for job, (inputs, _) in zip(jobs, terms, strict=True)]
    count, device = len(tensors[0]) - 1, jobs[0].out.device
    if count == 0:
        for job in jobs:
            job.out.zero_()
        return
    chunks = chunk_table(tuple(job.out.numel() for job in jobs), device)
    combine[(len(chunks),)](
        chunks,
        table([[x.data_ptr() for x in row] for row in tensors], device),
        upload(np.array([factors for _, factors in terms], np.float32), device),
        CODES=codes(tensors[0]),
        COUNT=count,
        ALIGNED=aligned(tensors[0]),
        BLOCK=BLOCK,
        **EXACT,
    )


def _combine_rows(jobs: Sequence[TensorJob]) -> None:
    for job in jobs:
        plan, out, tensors = job.plan, job.out, (job.out, *job.inputs)
        assert isinstance(plan, RowCombination), "Should not reach."
        layout = row_layout(plan, tuple(out.shape))
        assert layout is not None, "Should not reach."
        combine_rows[(triton.cdiv(out.numel(), BLOCK),)](
            table([x.data_ptr() for x in tensors], out.device),
            upload(coefficient_table(plan), out.device),
            out.numel(),
            *layout,
            CODES=codes(tensors),
            COUNT=len(job.inputs),
            WIDE=out.numel() >= 1 << 31,
            BLOCK=BLOCK,
            **EXACT,
        )


def _sum_masked(jobs: Sequence[TensorJob]) -> None:
    device, plans = jobs[0].out.device, [job.plan for job in jobs if isinstance(job.plan, MaskedSum)]
    count, kind = len(plans[0].rules), mask_kind(plans[0])
    integers = np.zeros((len(jobs), count, INTEGERS), dtype=np.int64)
    factors = np.empty((len(jobs), 2 * count + 1), dtype=np.float32)
    requests: list[CutRequest] = []
    bitmaps: list[list[torch.Tensor]] = []  # kept alive until the launch
    for t, (job, plan) in enumerate(zip(jobs, plans, strict=True)):
        counts = TaskVectorCounts(job)
        masks = source_masks(job, plan, counts)
        bitmaps.append([counts.mask(k, mask) for k, mask in enumerate(masks)] if kind is MaskKind.RANK else [])
        for k, mask in enumerate(masks):
            pair = counts.pair(k)
            requests += [CutRequest(mask.low, pair, (t, k, 0)), CutRequest(mask.high, pair, (t, k, 2))]
            integers[t, k, 4:7] = *mask.key, mask.share
        weights = [source.weight for source in plan.rules]
        rescaled = [mask.factor * weight for mask, weight in zip(masks, weights, strict=True)]
        factors[t] = (*rescaled, *weights, plan.factor)
    tensors = [(job.out, *job.base_and_sources) for job in jobs]
    addresses = [[x.data_ptr() for x in (*row, *masks)] for row, masks in zip(tensors, bitmaps, strict=True)]
    chunks = chunk_table(tuple(job.out.numel() for job in jobs), device)
    masked_sum[(len(chunks),)](
        chunks,
        table(addresses, device),
        resolve_all(requests, integers, device),
        upload(factors, device),
        CODES=codes(tensors[0]),
        COUNT=count,
        KIND=int(kind),
        VOTE=int(vote(plans[0])),
        ALIGNED=aligned(tensors[0]),
        BLOCK=BLOCK,
        **EXACT,
    )

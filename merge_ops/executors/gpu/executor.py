"""Runs works on a CUDA device by Triton kernels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
import triton

from ...methods import AddDelta, Custom, KeepWindow, LinearCombination, MaskedSum, RowCombination
from ..job import TensorJob
from ..mask_cuts import by_magnitude, by_rank, numbers_of
from .launch import BLOCK, EXACT, aligned, chunk_table, codes, on, supported, table, upload
from .linear import combine, combine_rows
from .masked_sum import AVERAGE, BITMAP, ELECT, ELECT_AND_DIVIDE, HASH, LARGEST, NUMBERS, SUM, WINDOW, masked_sum
from .method_kernels import launcher
from .pending_cuts import Request, resolve
from .task_vector_counts import TaskVectorCounts

TOGETHER = 32  # works per launch: the device starts on them while the host prepares the next
MOST_ELEMENTS = (
    1 << 32
)  # of a tensor with masks or a kernel of its own: the hash's key changes there, and indices fit 32 bits


def can_run(work: TensorJob) -> bool:
    """Whether there is a kernel for this work, its dtypes and the places of its tensors."""
    plan, size, device = work.plan, work.out.numel(), work.out.device
    if not size or not all(supported(x, device) for x in (*work.inputs, work.out)):
        return False
    if isinstance(plan, AddDelta):
        return supported(plan.delta, device)
    if isinstance(plan, RowCombination):
        return inner_and_period(plan, tuple(work.out.shape)) is not None
    if isinstance(plan, MaskedSum):
        # Rows run along dimension 1.
        return bool(plan.rules) and size <= MOST_ELEMENTS and not (by_rank(plan) and work.out.dim() > 2)
    if isinstance(plan, Custom):
        return size < MOST_ELEMENTS and launcher(plan, len(work.sources)) is not None
    return True


def run_all(works: Sequence[TensorJob]) -> None:
    """Fill every work's `out`; works of one kernel share launches. Returns before the device is done."""
    batches: dict[tuple[object, ...], list[TensorJob]] = {}
    for work in works:
        batches.setdefault(_kind(work), []).append(work)
    for (launch, device, *_), batch in batches.items():
        assert callable(launch) and isinstance(device, torch.device), "Should not reach."
        with on(device):
            for start in range(0, len(batch), TOGETHER):
                launch(batch[start : start + TOGETHER])


def _kind(work: TensorJob) -> tuple[object, ...]:
    """The launcher, the device, and whatever else works of one launch have in common."""
    plan, device = work.plan, work.out.device
    if isinstance(plan, (LinearCombination, AddDelta)):
        tensors = (work.out, *work.terms[0])
        return (_combine, device, len(tensors), codes(tensors), aligned(tensors))
    if isinstance(plan, RowCombination):
        return (_combine_rows, device)
    tensors = (work.out, *work.based)
    if isinstance(plan, Custom):
        return (launcher(plan, len(work.sources)), device, len(tensors), codes(tensors), aligned(tensors))
    assert isinstance(plan, MaskedSum), "Should not reach."
    return (_sum_masked, device, len(tensors), codes(tensors), aligned(tensors), _rule(plan), _vote(plan))


def _combine(works: Sequence[TensorJob]) -> None:
    terms = [work.terms for work in works]
    tensors = [(work.out, *inputs) for work, (inputs, _) in zip(works, terms, strict=True)]
    count, device = len(tensors[0]) - 1, works[0].out.device
    if count == 0:
        for work in works:
            work.out.zero_()
        return
    chunks = chunk_table(tuple(work.out.numel() for work in works), device)
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


def _combine_rows(works: Sequence[TensorJob]) -> None:
    for work in works:
        plan, out, tensors = work.plan, work.out, (work.out, *work.inputs)
        assert isinstance(plan, RowCombination), "Should not reach."
        placed = inner_and_period(plan, tuple(out.shape))
        assert placed is not None, "Should not reach."
        coefficients = np.stack([np.asarray(c, np.float64).reshape(-1) for c in plan.coefficients])
        combine_rows[(triton.cdiv(out.numel(), BLOCK),)](
            table([x.data_ptr() for x in tensors], out.device),
            upload(coefficients.astype(np.float32), out.device),
            out.numel(),
            *placed,
            CODES=codes(tensors),
            COUNT=len(work.inputs),
            WIDE=out.numel() >= 1 << 31,
            BLOCK=BLOCK,
            **EXACT,
        )


def inner_and_period(plan: RowCombination, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Where coefficients vary along one run of dimensions: the elements after it, and how many coefficients."""
    own = plan.coefficients[0].shape
    if len(own) != len(shape) or any(a not in (1, b) for a, b in zip(own, shape, strict=True)):
        return None
    varying = [i for i, length in enumerate(own) if length > 1]
    if not varying:
        return prod(shape), 1
    first, last = varying[0], varying[-1]
    if any(own[i] != shape[i] for i in range(first, last + 1)):
        return None
    return prod(shape[last + 1 :]), prod(own)


def _sum_masked(works: Sequence[TensorJob]) -> None:
    device, plans = works[0].out.device, [_masked(work) for work in works]
    count, rule = len(plans[0].rules), _rule(plans[0])
    numbers = np.zeros((len(works), count, NUMBERS), dtype=np.int64)
    factors = np.empty((len(works), 2 * count + 1), dtype=np.float32)
    requests: list[Request] = []
    masks: list[torch.Tensor] = []
    tensors: list[tuple[torch.Tensor, ...]] = []
    addresses: list[list[int]] = []
    for t, (work, plan) in enumerate(zip(works, plans, strict=True)):
        counts = TaskVectorCounts(work)
        found = numbers_of(work, plan, counts)
        own = [counts.mask(k, n) for k, n in enumerate(found)] if rule == BITMAP else []
        for k, n in enumerate(found):
            pair = (counts.inputs[0], counts.inputs[k + 1])
            requests += [Request(n.low, pair, (t, k, 0)), Request(n.high, pair, (t, k, 2))]
            numbers[t, k, 4:7] = *n.key, n.share
        weights = [source.weight for source in plan.rules]
        rescaled = [n.factor * weight for n, weight in zip(found, weights, strict=True)]
        factors[t] = (*rescaled, *weights, plan.factor)
        tensors.append((work.out, *counts.inputs))
        addresses.append([x.data_ptr() for x in (*tensors[-1], *own)])
        masks += own
    chunks = chunk_table(tuple(work.out.numel() for work in works), device)
    masked_sum[(len(chunks),)](
        chunks,
        table(addresses, device),
        resolve(requests, numbers, device),
        upload(factors, device),
        CODES=codes(tensors[0]),
        COUNT=count,
        RULE=rule,
        VOTE=_vote(plans[0]),
        ALIGNED=aligned(tensors[0]),
        BLOCK=BLOCK,
        **EXACT,
    )


def _masked(work: TensorJob) -> MaskedSum:
    assert isinstance(work.plan, MaskedSum), "Should not reach."
    return work.plan


def _rule(plan: MaskedSum) -> int:
    if by_rank(plan):
        return BITMAP
    if not by_magnitude(plan):
        return HASH
    return WINDOW if any(isinstance(rule.keep, KeepWindow) for rule in plan.rules) else LARGEST


def _vote(plan: MaskedSum) -> int:
    if plan.consensus:
        return ELECT_AND_DIVIDE if plan.normalize else ELECT
    return AVERAGE if plan.average else SUM

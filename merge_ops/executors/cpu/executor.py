"""Runs works on the CPU by compiled kernels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch

from ...methods import AddDelta, Custom, LinearCombination, MaskedSum, RowCombination
from ...numerics.reductions import CHUNK, sum_of_chunks
from ..job import TensorJob
from ..mask_cuts import SourceNumbers, by_magnitude, by_rank, numbers_of, row_length
from .gram_kernels import products
from .launch import addresses, all_bfloat16, chunks_of, codes, each, run, supported
from .linear import combine, combine_mixed, combine_rows
from .load_store import BFLOAT16, STRIPS, likes
from .masked_sum import AVERAGE, ELECT, ELECT_AND_DIVIDE, HASH, MAGNITUDE, RANK, SUM, masked_sum
from .method_kernels import KERNELS
from .pending_cuts import answers
from .task_vector_counts import TaskVectorCounts

FUSED = 8  # inputs up to which a linear combination has a kernel for its number of them


def can_run(work: TensorJob) -> bool:
    """Whether there is a kernel for this work, its dtypes and the places of its tensors."""
    plan, inputs = work.plan, work.inputs
    if not all(supported(x) for x in (*inputs, work.out)) or not inputs[0].numel():
        return False
    if isinstance(plan, AddDelta):
        return supported(plan.delta)
    if isinstance(plan, RowCombination):
        return _inner_and_size(work) is not None
    if isinstance(plan, Custom):
        return plan.kernel in KERNELS
    if isinstance(plan, MaskedSum):
        # Rows run along dimension 1, and the hash changes its key at elements that are multiples of 2**32.
        return bool(plan.rules) and not (by_rank(plan) and (inputs[0].dim() > 2 or inputs[0].numel() > 1 << 32))
    return True


def run_all(works: Sequence[TensorJob]) -> None:
    """Fill every work's `out`; works of one kernel share a launch."""
    batches: dict[tuple[object, ...], list[TensorJob]] = {}
    for work in works:
        batches.setdefault(_kind(work), []).append(work)
    for kind, batch in batches.items():
        if kind[0] == "linear":
            _combine(batch)
        elif kind[0] == "mixed":
            _combine_mixed(batch)
        elif kind[0] == "masked":
            _masked(batch, BFLOAT16 if kind[-1] else STRIPS)
        else:
            for work in batch:
                _single(work)


def _kind(work: TensorJob) -> tuple[object, ...]:
    plan = work.plan
    if isinstance(plan, (LinearCombination, AddDelta)):
        tensors, _ = work.terms
        return ("linear", len(tensors)) if 0 < len(tensors) <= FUSED and all_bfloat16(tensors, work.out) else ("mixed",)
    if isinstance(plan, MaskedSum):
        return ("masked", _rule(plan), _vote(plan), len(plan.rules), all_bfloat16(work.based, work.out))
    return ("single",)


def _combine(works: Sequence[TensorJob]) -> None:
    terms, outs = [work.terms for work in works], [work.out for work in works]
    inputs = np.stack([addresses(tensors) for tensors, _ in terms])
    coefficients = np.array([factors for _, factors in terms], np.float32)
    zeros, like = likes(inputs.shape[1])
    run(combine, chunks_of([out.numel() for out in outs]), addresses(outs), inputs, coefficients, zeros, like)


def _combine_mixed(works: Sequence[TensorJob]) -> None:
    terms = [work.terms for work in works]
    most = max(1, *(len(tensors) for tensors, _ in terms))
    inputs, kinds = np.zeros((2, len(works), most), np.int64)
    coefficients = np.zeros((len(works), most), np.float32)
    for t, (tensors, factors) in enumerate(terms):
        count = len(tensors)
        inputs[t, :count], kinds[t, :count], coefficients[t, :count] = addresses(tensors), codes(tensors), factors
    counts = np.array([len(tensors) for tensors, _ in terms], dtype=np.int64)
    outs = [work.out for work in works]
    chunks = chunks_of([out.numel() for out in outs])
    run(combine_mixed, chunks, addresses(outs), codes(outs), inputs, kinds, counts, coefficients)


def _masked(works: Sequence[TensorJob], form: tuple[int, ...]) -> None:
    plans = [work.plan for work in works if isinstance(work.plan, MaskedSum)]
    count = len(plans[0].rules)
    shape = (len(works), count)
    cuts, bounds = np.empty((*shape, 2), np.uint32), np.empty((*shape, 2), np.int64)
    keys, shares = np.empty((*shape, 2), np.uint32), np.empty(shape, np.uint32)
    factors, weights = np.empty(shape, np.float32), np.empty(shape, np.float32)
    counts = [TaskVectorCounts(work) for work in works]
    numbers = each(lambda own: numbers_of(*own), list(zip(works, plans, counts, strict=True)))
    masks = np.zeros(shape, np.int64)
    if by_rank(plans[0]):
        masks[:] = [_masks(*own) for own in zip(works, numbers, counts, strict=True)]
    found = iter(answers([cut for own in numbers for n in own for cut in (n.low, n.high)]))
    for t, own in enumerate(numbers):
        for k, n in enumerate(own):
            low, high = next(found), next(found)
            cuts[t, k], bounds[t, k] = (low.bits, high.bits), (low.bound, high.bound)
            keys[t, k], shares[t, k] = n.key, n.share
            weights[t, k] = plans[t].rules[k].weight
            factors[t, k] = n.factor * plans[t].rules[k].weight
    scales = np.array([plan.factor for plan in plans], np.float32)
    outs, based = [work.out for work in works], [work.based for work in works]
    inputs, kinds = np.stack([addresses(b) for b in based]), np.stack([codes(b) for b in based])
    zeros, bits = (np.float32(0),) * count, (np.uint32(0),) * count
    run(
        masked_sum,
        chunks_of([out.numel() for out in outs]),
        addresses(outs),
        codes(outs),
        inputs,
        kinds,
        form,
        _rule(plans[0]),
        _vote(plans[0]),
        zeros,
        bits,
        (0,) * (count + 1),
        cuts,
        bounds,
        keys,
        shares,
        masks,
        factors,
        weights,
        scales,
    )


def _masks(work: TensorJob, numbers: Sequence[SourceNumbers], counts: TaskVectorCounts) -> list[int]:
    """The addresses of one work's masks by rank, which `counts` keeps alive."""
    length, found = row_length(work.out), []
    for position, n in enumerate(numbers):
        levels = np.full(length, n.share, np.uint32) if n.levels is None else n.levels
        words, _ = counts.mask_by_rank(position, n.key, levels)
        found.append(words.ctypes.data)
    return found


def _single(work: TensorJob) -> None:
    if isinstance(work.plan, RowCombination):
        _combine_rows(work, work.plan)
    else:
        assert isinstance(work.plan, Custom) and work.plan.kernel is not None, "Should not reach."
        KERNELS[work.plan.kernel](work, work.plan.numbers)


def _combine_rows(work: TensorJob, plan: RowCombination) -> None:
    placed = _inner_and_size(work)
    assert placed is not None, "Should not reach."
    inner, _ = placed
    coefficients = np.stack([np.asarray(c, np.float64).reshape(-1) for c in plan.coefficients]).astype(np.float32)
    inputs, outs = work.inputs, (work.out,)
    chunks = chunks_of([work.out.numel()])
    run(
        combine_rows,
        chunks,
        addresses(outs),
        codes(outs),
        addresses(inputs)[None],
        codes(inputs)[None],
        coefficients,
        inner,
    )


def _inner_and_size(work: TensorJob) -> tuple[int, int] | None:
    """Where coefficients vary along one run of dimensions: the elements after it, and how many coefficients."""
    assert isinstance(work.plan, RowCombination), "Should not reach."
    shape, own = tuple(work.out.shape), work.plan.coefficients[0].shape
    if len(own) != len(shape) or any(a not in (1, b) for a, b in zip(own, shape, strict=True)):
        return None
    varying = [i for i, length in enumerate(own) if length > 1]
    if not varying:
        return prod(shape), 1
    first, last = varying[0], varying[-1]
    if any(own[i] != shape[i] for i in range(first, last + 1)):
        return None
    return prod(shape[last + 1 :]), prod(own)


def _rule(plan: MaskedSum) -> tuple[int, ...]:
    if by_rank(plan):
        return RANK
    return MAGNITUDE if by_magnitude(plan) else HASH


def _vote(plan: MaskedSum) -> tuple[int, ...]:
    if plan.average:
        return AVERAGE
    if not plan.consensus:
        return SUM
    return ELECT_AND_DIVIDE if plan.normalize else ELECT


def gram_matrix(tensors: Sequence[torch.Tensor], base: torch.Tensor | None = None) -> np.ndarray:
    """As `reductions.gram_matrix`."""
    everything = tensors if base is None else (*tensors, base)
    at, kinds, chunks = addresses(everything), codes(everything), chunks_of([tensors[0].numel()], CHUNK)
    size = len(tensors)
    gram = np.empty((size, size))
    for i in range(size):
        for j in range(i, size):
            sums = np.empty(len(chunks))
            run(products, chunks, at, kinds, i, j, -1 if base is None else size, sums)
            gram[i, j] = gram[j, i] = sum_of_chunks(sums.tolist())
    return gram

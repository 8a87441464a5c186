"""The kernel of methods that merge element by element by a rule; a rule is a Triton function, see `elementwise`."""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import triton.language as tl

from ..job import TensorJob
from .launch import BLOCK, EXACT, aligned, chunk_table, codes, table, upload
from .load_store import kernel, load, store

INTEGERS = 2  # per tensor
_INTEGERS = tl.constexpr(INTEGERS)


@kernel
def task_vectors(sources, base, COUNT: tl.constexpr):
    """Return the differences of COUNT sources from the base, a tuple."""
    deltas = ()
    for k in tl.static_range(COUNT):
        deltas = deltas + (sources[k] - base,)
    return deltas


@kernel
def _merge_block(
    addresses,
    integers,
    parameters,
    first,
    lanes,
    stop,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    RULE: tl.constexpr,
    ALIGNED: tl.constexpr,
    TAIL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    offsets = first + lanes
    inside = offsets < stop
    base = load(tl.load(addresses + 1), offsets, inside, CODES, 1, ALIGNED, TAIL)
    sources = ()
    for k in tl.static_range(COUNT):
        sources = sources + (load(tl.load(addresses + 2 + k), offsets, inside, CODES, k + 2, ALIGNED, TAIL),)
    merged = RULE(base, sources, integers, parameters, first, lanes, inside, COUNT, BLOCK)
    store(tl.load(addresses), offsets, inside, merged, CODES, 0, ALIGNED, TAIL)


@kernel
def elementwise(
    chunks,
    addresses,
    integers,
    parameters,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    RULE: tl.constexpr,
    STRIDE: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Merge chunks (tensor, start, stop), (C, 3) int64, by a method's rule.

    Per tensor: `addresses` (T, 2 + K) int64 of the result, the base and the sources; `integers` (T, 2) int64 and
    `parameters` (T, STRIDE) float32 as the rule needs them. RULE(base, sources, integers, parameters, first, lanes,
    inside, COUNT, BLOCK) returns the merged block of the elements first + lanes, float32; `base` and the K `sources`
    are its values, float32, and `inside` says which of them exist.
    """
    chunk = chunks + 3 * tl.program_id(0)
    tensor = tl.load(chunk)
    start, stop = tl.multiple_of(tl.load(chunk + 1), BLOCK), tl.load(chunk + 2)
    addresses += tensor * (2 + COUNT)
    integers += tensor * _INTEGERS
    parameters += tensor * STRIDE
    # Whole blocks are read and written without masks; only a tensor's last block needs them.
    blocks = (stop - start) // BLOCK
    whole = start + blocks * BLOCK
    lanes = tl.arange(0, BLOCK)
    for block in range(blocks):
        first = start + block * BLOCK
        _merge_block(addresses, integers, parameters, first, lanes, stop, CODES, COUNT, RULE, ALIGNED, False, BLOCK)
    if whole < stop:
        _merge_block(addresses, integers, parameters, whole, lanes, stop, CODES, COUNT, RULE, ALIGNED, True, BLOCK)


def run_elementwise(
    rule: Any,
    jobs: Sequence[TensorJob],
    parameters: Sequence[Sequence[float]],
    *,
    integers: torch.Tensor | None = None,
    addresses: torch.Tensor | None = None,
) -> None:
    """Merge all jobs in one launch of `elementwise`, with its tables; `addresses` are those of `job_addresses`."""
    device, tensors = jobs[0].out.device, (jobs[0].out, *jobs[0].base_and_sources)
    chunks = chunk_table(tuple(job.out.numel() for job in jobs), device)
    elementwise[(len(chunks),)](
        chunks,
        job_addresses(jobs) if addresses is None else addresses,
        table(np.zeros((len(jobs), INTEGERS)), device) if integers is None else integers,
        upload(np.array(parameters, np.float32), device),
        CODES=codes(tensors),
        COUNT=len(tensors) - 2,
        RULE=rule,
        STRIDE=len(parameters[0]),
        ALIGNED=aligned(tensors),
        BLOCK=BLOCK,
        **EXACT,
    )


def job_addresses(jobs: Sequence[TensorJob]) -> torch.Tensor:
    """Return the addresses of each job's result, base and sources, (T, 2 + K) int64 on the device."""
    rows = [[x.data_ptr() for x in (job.out, *job.base_and_sources)] for job in jobs]
    return table(rows, jobs[0].out.device)

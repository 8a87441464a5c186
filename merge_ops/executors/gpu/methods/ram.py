"""The kernel of RAM and RAM+; the elements that sources moved are counted by torch operations."""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton.language as tl

from ....methods.ram import unique_scales
from ...job import TensorJob
from ...method_kernels import MethodKernel
from ..elementwise import run_elementwise, task_vectors
from ..load_store import kernel

PIECE = 1 << 24  # elements that are counted at a time


@kernel
def ram(base, sources, integers, parameters, first, lanes, inside, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    """The rule of `elementwise`; `parameters`: epsilon, factor of the sum, each source's scale of unique elements."""
    deltas = task_vectors(sources, base, COUNT)
    epsilon = tl.load(parameters)
    count = deltas[0]  # only for its type: the first source replaces it
    for k in tl.static_range(COUNT):
        moved = (tl.abs(deltas[k]) > epsilon).to(tl.float32)
        count = moved if k == 0 else count + moved
    shared = tl.div_rn(tl.full(count.shape, 1.0, tl.float32), tl.maximum(count, 1.0))
    total = count
    for k in tl.static_range(COUNT):
        moved = (tl.abs(deltas[k]) > epsilon).to(tl.float32)
        # An element that one source alone moved is scaled by RAM+; others are averaged.
        term = deltas[k] * moved * tl.where(count == 1.0, tl.load(parameters + 2 + k), shared)
        total = term if k == 0 else total + term
    return total * tl.load(parameters + 1) + base


def _parameters(job: TensorJob) -> tuple[float, ...]:
    epsilon, r, alpha, factor = job.method_values
    scales = (1.0,) * len(job.sources)
    if r:
        counts = job.remember_last("moved", epsilon, lambda: _moved_counts(job.base_and_sources, epsilon))
        scales = unique_scales(counts, epsilon, r, alpha)
    return (epsilon, factor, *scales)


def _moved_counts(inputs: Sequence[torch.Tensor], epsilon: float) -> list[list[int]]:
    """Return, per source, how many elements it moved alone, and how many together with others."""
    parts = []
    for start in range(0, inputs[0].numel(), PIECE):
        base, *sources = (x.reshape(-1)[start : start + PIECE].float() for x in inputs)
        moved = [(x - base).abs_() > epsilon for x in sources]
        count = torch.stack(moved).sum(0, dtype=torch.int32)
        alone, shared = count == 1, count > 1
        parts.append(torch.stack([torch.stack([(m & alone).sum(), (m & shared).sum()]) for m in moved]))
    return torch.stack(parts).sum(0).tolist()


def _merge(jobs: Sequence[TensorJob]) -> None:
    run_elementwise(ram, jobs, [_parameters(job) for job in jobs])


KERNEL = MethodKernel(_merge)

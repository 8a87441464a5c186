"""The kernel of consensus merging."""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

from collections.abc import Sequence

import triton.language as tl

from ...job import TensorJob
from ...method_kernels import MethodKernel
from ..elementwise import run_elementwise, task_vectors
from ..load_store import kernel


@kernel
def consensus(base, sources, integers, parameters, first, lanes, inside, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    """The rule of `elementwise`; `parameters`: threshold, agreement, factor of the sum."""
    deltas = task_vectors(sources, base, COUNT)
    threshold = tl.load(parameters)
    # The multi-task vector T = sum_k T_k.
    total = deltas[0]
    for k in tl.static_range(1, COUNT):
        total += deltas[k]
    # The number of TALL masks that contain this element: m_k = [|T_k| > threshold |T - T_k|].
    votes = (tl.abs(deltas[0]) > tl.abs(total - deltas[0]) * threshold).to(tl.float32)
    for k in tl.static_range(1, COUNT):
        votes += (tl.abs(deltas[k]) > tl.abs(total - deltas[k]) * threshold).to(tl.float32)
    # The consensus mask: base + factor [sum_k m_k >= agreement] T.
    return total * (votes >= tl.load(parameters + 1)).to(tl.float32) * tl.load(parameters + 2) + base


def _merge(jobs: Sequence[TensorJob]) -> None:
    run_elementwise(consensus, jobs, [job.method_values for job in jobs])


KERNEL = MethodKernel(_merge)

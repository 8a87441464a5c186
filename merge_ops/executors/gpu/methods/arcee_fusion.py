"""The kernel of Arcee Fusion."""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import triton.language as tl

from ....methods.arcee_fusion import importance
from ...job import TensorJob
from ...method_kernels import MethodKernel
from ..elementwise import run_elementwise
from ..launch import table
from ..load_store import kernel


@kernel
def arcee_fusion(base, sources, integers, parameters, first, lanes, inside, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    """The rule of `elementwise`; `parameters`: threshold.

    `integers`: the address of the rows' divergences, float32, and the length of a row.
    """
    delta = sources[0] - base
    # importance = |x - base| KL(row); the other model's element is taken if it reaches the threshold.
    row = (first + lanes).to(tl.uint32) // tl.load(integers + 1).to(tl.uint32)
    divergence = tl.load(tl.load(integers).to(tl.pointer_type(tl.float32)) + row, mask=inside, other=0.0)
    return delta * (tl.abs(delta) * divergence >= tl.load(parameters)).to(tl.float32) + base


def _merge(jobs: Sequence[TensorJob]) -> None:
    known = [job.remember_all("importance", partial(importance, *job.base_and_sources)) for job in jobs]
    lengths = [job.out.shape[-1] if job.out.dim() else 1 for job in jobs]
    rows = [[divergence.data_ptr(), length] for (divergence, _), length in zip(known, lengths, strict=True)]
    parameters = [(threshold,) for _, threshold in known]
    run_elementwise(arcee_fusion, jobs, parameters, integers=table(rows, jobs[0].out.device))


KERNEL = MethodKernel(_merge)

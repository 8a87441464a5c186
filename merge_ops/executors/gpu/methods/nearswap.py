"""The kernel of NearSwap."""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

from collections.abc import Sequence

import triton.language as tl

from ....methods.nearswap import SMALLEST
from ...job import TensorJob
from ...method_kernels import MethodKernel
from ..elementwise import run_elementwise
from ..load_store import kernel

_LEAST_DISTANCE = tl.constexpr(SMALLEST)


@kernel
def nearswap(base, sources, integers, parameters, first, lanes, inside, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    """The rule of `elementwise`; `parameters`: t."""
    # w other + (1 - w) base with w = clamp(t / |base - other|, 0, 1)
    distance = tl.maximum(tl.abs(base - sources[0]), _LEAST_DISTANCE)
    share = tl.maximum(tl.minimum(tl.div_rn(tl.load(parameters), distance), 1.0), 0.0)
    return sources[0] * share + base * (1.0 - share)


def _merge(jobs: Sequence[TensorJob]) -> None:
    run_elementwise(nearswap, jobs, [job.method_values for job in jobs])


KERNEL = MethodKernel(_merge)

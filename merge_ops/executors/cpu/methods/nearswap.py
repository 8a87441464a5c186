"""The kernel of NearSwap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....methods.nearswap import SMALLEST
from ...job import TensorJob
from ...method_kernels import MethodKernel
from ..elementwise import run_elementwise
from ..load_store import STRIP, compiled, decode_all, encode

LEAST_DISTANCE = np.float32(SMALLEST)


@compiled
def _nearswap(bases, others, n, t, out):
    for e in range(n):
        base, other = bases[e], others[e]
        distance = np.float32(abs(np.float32(base - other)))
        distance = distance if distance > LEAST_DISTANCE else LEAST_DISTANCE
        # w = clamp(t / |base - other|, 0, 1), as comparisons that are false for NaN.
        share = np.float32(t / distance)
        share = share if share < np.float32(1) else np.float32(1)
        share = share if share > np.float32(0) else np.float32(0)
        # w other + (1 - w) base, each product rounded before the sum.
        out[e] = np.float32(np.float32(other * share) + np.float32(base * np.float32(np.float32(1) - share)))


@compiled
def nearswap(chunks, first, last, out, out_code, inputs, codes, zeros, t):
    """Merge chunks [first, last) of one tensor; see `run_elementwise` for the arguments."""
    x, merged = np.empty((len(zeros) + 1, STRIP), np.float32), np.empty(STRIP, np.float32)
    for chunk in range(first, last):
        stop = chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            decode_all(inputs, codes, start, n, x)
            _nearswap(x[0], x[1], n, t, merged)
            encode(merged, n, out, out_code, start)


def _merge(jobs: Sequence[TensorJob]) -> None:
    for job in jobs:
        (t,) = job.method_values
        run_elementwise(nearswap, job, np.float32(t))


KERNEL = MethodKernel(_merge)

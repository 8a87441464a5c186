"""The kernel of consensus merging."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...job import TensorJob
from ...method_kernels import MethodKernel
from ..elementwise import run_elementwise
from ..load_store import STRIP, compiled, decode_all, encode


@compiled
def _consensus(x, n, zeros, threshold, agreement, scale, out):
    for e in range(n):
        base = x[0, e]
        # The multi-task vector T = sum_k T_k.
        total = np.float32(0)
        for k in range(len(zeros)):
            d = np.float32(x[k + 1, e] - base)
            total = d if k == 0 else np.float32(total + d)
        # The number of TALL masks that contain this element: m_k = [|T_k| > threshold |T - T_k|].
        needed = np.float32(0)
        for k in range(len(zeros)):
            d = np.float32(x[k + 1, e] - base)
            others = np.float32(np.float32(abs(np.float32(total - d))) * threshold)
            needed += np.float32(np.float32(abs(d)) > others)
        # The consensus mask: base + scale [sum_k m_k >= agreement] T.
        out[e] = np.float32(np.float32(np.float32(total * np.float32(needed >= agreement)) * scale) + base)


@compiled
def consensus(chunks, first, last, out, out_code, inputs, codes, zeros, threshold, agreement, scale):
    """Merge chunks [first, last) of one tensor; see `run_elementwise` for the arguments."""
    x, merged = np.empty((len(zeros) + 1, STRIP), np.float32), np.empty(STRIP, np.float32)
    for chunk in range(first, last):
        stop = chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            decode_all(inputs, codes, start, n, x)
            _consensus(x, n, zeros, threshold, agreement, scale, merged)
            encode(merged, n, out, out_code, start)


def _merge(jobs: Sequence[TensorJob]) -> None:
    for job in jobs:
        run_elementwise(consensus, job, *np.array(job.method_values, np.float32))


KERNEL = MethodKernel(_merge)

"""The kernel of Arcee Fusion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....methods.arcee_fusion import importance
from ...job import TensorJob
from ...method_kernels import MethodKernel
from ..elementwise import run_elementwise
from ..load_store import compiled, decode_all, encode


@compiled
def _arcee_fusion(x, n, divergence, threshold, out):
    for e in range(n):
        base = x[0, e]
        d = np.float32(x[1, e] - base)
        # importance = |x - base| KL(row); the other model's element is taken if it reaches the threshold.
        taken = np.float32(np.float32(np.float32(abs(d)) * divergence) >= threshold)
        out[e] = np.float32(base + np.float32(d * taken))


@compiled
def arcee_fusion(chunks, first, last, out, out_code, inputs, codes, zeros, divergences, length, threshold):
    """Merge chunks [first, last), of whole rows of `length` elements; see `run_elementwise` for the arguments.

    `divergences` (rows,) float32 has KL(softmax(x) || softmax(base)) of each row.
    """
    x, merged = np.empty((len(zeros) + 1, length), np.float32), np.empty(length, np.float32)
    for chunk in range(first, last):
        for start in range(chunks[chunk, 1], chunks[chunk, 2], length):
            decode_all(inputs, codes, start, length, x)
            _arcee_fusion(x, length, divergences[start // length], threshold, merged)
            encode(merged, length, out, out_code, start)


def _merge(jobs: Sequence[TensorJob]) -> None:
    for job in jobs:
        divergence, threshold = job.remember_all("importance", lambda job=job: importance(*job.base_and_sources))
        rows = divergence.numpy().reshape(-1)
        length = job.out.numel() // len(rows)
        run_elementwise(arcee_fusion, job, rows, length, np.float32(threshold), row_length=length)


KERNEL = MethodKernel(_merge)

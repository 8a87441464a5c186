"""The launch of kernels that merge one tensor element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...numerics.reductions import CHUNK
from ..job import TensorJob
from .launch import addresses, chunks_of, codes, run


def run_elementwise(kernel: Callable[..., Any], job: TensorJob, *arguments: Any, row_length: int = 1) -> None:
    """Run `kernel(chunks, first, last, out, out_code, inputs, codes, zeros, *arguments)` over one tensor.

    Args:
        kernel: called for chunks [first, last) of `chunks` (C, 3) int64, (tensor, start, stop). `inputs` and `codes`
            (K + 1,) int64 are the addresses and dtype codes of the base and the K sources. `zeros` is a tuple of K
            float32, whose length specializes the kernel.
        job: the tensor to merge.
        arguments: passed on to the kernel.
        row_length: if it is not 1, chunks contain whole rows of that many elements.
    """
    tensors, size = job.base_and_sources, job.out.numel()
    step = CHUNK // 2 if row_length == 1 else max(1, CHUNK // 4 // row_length) * row_length
    (out,), (out_code,) = addresses((job.out,)), codes((job.out,))
    zeros = (np.float32(0),) * len(job.sources)
    run(kernel, chunks_of([size], step), out, out_code, addresses(tensors), codes(tensors), zeros, *arguments)

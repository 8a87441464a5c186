"""The kernels of RAM and RAM+: the counts of the elements that sources moved, and the merge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....methods.ram import unique_scales
from ...job import TensorJob
from ...method_kernels import MethodKernel
from ..elementwise import run_elementwise
from ..launch import addresses, chunks_of, codes, parallel
from ..load_store import STRIP, compiled, decode_all, encode, filled


@compiled
def _moved(x, k, e, epsilon):
    """Return z_k of the method's formula: whether source k moved element e."""
    return np.float32(abs(np.float32(x[k + 1, e] - x[0, e]))) > epsilon


@compiled
def _ram(x, n, scales, epsilon, factor, out):
    for e in range(n):
        base = x[0, e]
        count = np.float32(0)  # c of the formula: how many sources moved the element
        for k in range(len(scales)):
            count += np.float32(_moved(x, k, e, epsilon))
        shared = np.float32(np.float32(1) / (count if count > np.float32(1) else np.float32(1)))
        total = np.float32(0)
        for k in range(len(scales)):
            d = np.float32(x[k + 1, e] - base)
            moved = np.float32(_moved(x, k, e, epsilon))
            # Elements that only one source moved are scaled (RAM+), others are averaged over the c sources.
            term = np.float32(np.float32(d * moved) * (scales[k] if count == np.float32(1) else shared))
            total = term if k == 0 else np.float32(total + term)
        out[e] = np.float32(np.float32(total * factor) + base)


@compiled
def ram(chunks, first, last, out, out_code, inputs, codes, zeros, unique, epsilon, factor):
    """Merge chunks [first, last) of one tensor; see `run_elementwise` for the arguments.

    `unique` (K,) float32 are the scales of the elements that only one source moved.
    """
    x, merged = np.empty((len(zeros) + 1, STRIP), np.float32), np.empty(STRIP, np.float32)
    scales = filled(zeros, unique)
    for chunk in range(first, last):
        stop = chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            decode_all(inputs, codes, start, n, x)
            _ram(x, n, scales, epsilon, factor, merged)
            encode(merged, n, out, out_code, start)


@compiled
def moved_counts(chunks, first, last, inputs, codes, zeros, epsilon, counts):
    """Add to `counts` (K, 2) int64 the number of elements that each source moved alone, and together with others."""
    x = np.empty((len(zeros) + 1, STRIP), np.float32)
    for chunk in range(first, last):
        stop = chunks[chunk, 2]
        for start in range(chunks[chunk, 1], stop, STRIP):
            n = min(STRIP, stop - start)
            decode_all(inputs, codes, start, n, x)
            for e in range(n):
                moved = 0
                for k in range(len(zeros)):
                    moved += _moved(x, k, e, epsilon)
                for k in range(len(zeros)):
                    if _moved(x, k, e, epsilon):
                        counts[k, 0 if moved == 1 else 1] += 1


def _counts(job: TensorJob, epsilon: float) -> np.ndarray:
    tensors = job.base_and_sources
    inputs, kinds, chunks = addresses(tensors), codes(tensors), chunks_of([job.out.numel()])
    zeros = (np.float32(0),) * len(job.sources)

    def count(first: int, last: int) -> np.ndarray:
        counts = np.zeros((len(job.sources), 2), np.int64)
        moved_counts(chunks, first, last, inputs, kinds, zeros, np.float32(epsilon), counts)
        return counts

    return np.sum(parallel(count, chunks), axis=0)


def _merge(jobs: Sequence[TensorJob]) -> None:
    for job in jobs:
        epsilon, r, alpha, factor = job.method_values
        unique = (1.0,) * len(job.sources)
        if r:
            counts = job.remember_last("moved", epsilon, lambda job=job, epsilon=epsilon: _counts(job, epsilon))
            unique = unique_scales(counts.tolist(), epsilon, r, alpha)
        run_elementwise(ram, job, np.array(unique, np.float32), np.float32(epsilon), np.float32(factor))


KERNEL = MethodKernel(_merge)

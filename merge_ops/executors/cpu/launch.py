"""Runs kernels over tensors: addresses, chunks of work, and torch's number of threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from ...numerics.reductions import CHUNK
from .load_store import CODES

LONG, PATIENCE = 0.001, 0.005  # seconds per item, and before all of them
PIECES = 8  # per thread, so that threads end together
LEAST = 1 << 15  # elements that are worth handing to another thread


def supported(tensor: torch.Tensor) -> bool:
    """Whether kernels can read the tensor where it lies, or write to it."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype in CODES
        and tensor.is_contiguous()
        and tensor.data_ptr() % tensor.element_size() == 0
    )


def addresses(tensors: Sequence[torch.Tensor]) -> np.ndarray:
    """Where the tensors lie, int64. They must be kept alive while a kernel runs."""
    return np.array([tensor.data_ptr() for tensor in tensors], dtype=np.int64)


def codes(tensors: Sequence[torch.Tensor]) -> np.ndarray:
    """The tensors' dtypes as kernels know them, int64."""
    return np.array([CODES[tensor.dtype] for tensor in tensors], dtype=np.int64)


def all_bfloat16(tensors: Sequence[torch.Tensor], out: torch.Tensor) -> bool:
    """Whether one loop can read the tensors and write the result, which must be none of them."""
    if any(x.dtype != torch.bfloat16 for x in (*tensors, out)):
        return False
    return all(x.data_ptr() != out.data_ptr() for x in tensors)


def chunks_of(sizes: Sequence[int], step: int = CHUNK // 2) -> np.ndarray:
    """(tensor, start, stop) of pieces of at most `step` elements, int64, of tensors of these sizes, in order."""
    if all(0 < size <= step for size in sizes):
        table = np.zeros((len(sizes), 3), dtype=np.int64)
        table[:, 0], table[:, 2] = np.arange(len(sizes)), sizes
        return table
    pieces = [(t, start, min(size, start + step)) for t, size in enumerate(sizes) for start in range(0, size, step)]
    return np.array(pieces, dtype=np.int64).reshape(-1, 3)


def run(kernel: Callable[..., Any], chunks: np.ndarray, *arguments: Any) -> None:
    """`kernel(chunks, first, last, *arguments)` over all chunks, on torch's number of threads."""
    parallel(lambda first, last: kernel(chunks, first, last, *arguments), chunks)


def parallel(work: Callable[[int, int], Any], chunks: np.ndarray, pieces: int = PIECES) -> list[Any]:
    """What `work(first, last)` gives for runs of chunks of about equal size, in order; so many runs per thread."""
    threads, count = torch.get_num_threads(), len(chunks)
    ends = np.cumsum(chunks[:, 2] - chunks[:, 1])
    pieces = min(count, threads * pieces, int(ends[-1]) // LEAST) if count else 0
    if threads == 1 or pieces < 2:
        return [work(0, count)] if count else []
    cuts = (np.searchsorted(ends, ends[-1] * np.arange(1, pieces) / pieces) + 1).tolist()
    bounds = sorted({0, *cuts, count})
    return _results([_pool("chunks", threads).submit(work, *ends) for ends in pairwise(bounds)])


def each(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """What `work(item)` gives for items, in order; inside, kernels may be run.

    Several at a time where they take long: threads that wait for the interpreter's lock lose more than short ones take.
    """
    threads, start = torch.get_num_threads(), time.perf_counter()
    found: list[Any] = []
    for item in items:
        if threads > 1 and time.perf_counter() - start > LONG * len(found) + PATIENCE:
            break
        found.append(work(item))
    return found + _results([_pool("items", threads).submit(work, item) for item in items[len(found) :]])


def _results(futures: Sequence[Future[Any]]) -> list[Any]:
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
        wait(futures)  # kernels know addresses alone: nothing may be given up before they end


@lru_cache(maxsize=4)
def _pool(purpose: str, threads: int) -> ThreadPoolExecutor:
    """One for items and one for the chunks that they wait for: a thread must not wait for one of its own kind."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"mergesmith-{purpose}")

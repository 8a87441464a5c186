"""Runs kernels over tensors, given as addresses, dtype codes and chunks, on as many threads as torch uses."""

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

LONG_ITEM_S = 0.001  # items whose mean duration is longer run on threads
TRIAL_S = 0.005  # added to the time that items may take before that is decided
PIECES = 8  # per thread, so that threads end at about the same time
LEAST = 1 << 15  # elements of a piece; a smaller one costs more to hand over to another thread than it saves


def supported(tensor: torch.Tensor) -> bool:
    """Return whether kernels can read and write the tensor in place."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype in CODES
        and tensor.is_contiguous()
        and tensor.data_ptr() % tensor.element_size() == 0
    )


def addresses(tensors: Sequence[torch.Tensor]) -> np.ndarray:
    """Return the addresses of the tensors' data, int64. The caller keeps the tensors alive while a kernel runs."""
    return np.array([tensor.data_ptr() for tensor in tensors], dtype=np.int64)


def codes(tensors: Sequence[torch.Tensor]) -> np.ndarray:
    """Return the codes of the tensors' dtypes, int64; see `load_store.CODES`."""
    return np.array([CODES[tensor.dtype] for tensor in tensors], dtype=np.int64)


def all_bfloat16(tensors: Sequence[torch.Tensor], out: torch.Tensor) -> bool:
    """Return whether `Access.DIRECT` is possible: all tensors are bfloat16, and the result is not an input."""
    if any(x.dtype != torch.bfloat16 for x in (*tensors, out)):
        return False
    return all(x.data_ptr() != out.data_ptr() for x in tensors)


def chunks_of(sizes: Sequence[int], step: int = CHUNK // 2) -> np.ndarray:
    """Cut tensors of these sizes into chunks of at most `step` elements: (tensor, start, stop), (C, 3) int64."""
    if all(0 < size <= step for size in sizes):
        table = np.zeros((len(sizes), 3), dtype=np.int64)
        table[:, 0], table[:, 2] = np.arange(len(sizes)), sizes
        return table
    pieces = [(t, start, min(size, start + step)) for t, size in enumerate(sizes) for start in range(0, size, step)]
    return np.array(pieces, dtype=np.int64).reshape(-1, 3)


def run(kernel: Callable[..., Any], chunks: np.ndarray, *arguments: Any) -> None:
    """Run `kernel(chunks, first, last, *arguments)` over all chunks."""
    parallel(lambda first, last: kernel(chunks, first, last, *arguments), chunks)


def parallel(function: Callable[[int, int], Any], chunks: np.ndarray, pieces: int = PIECES) -> list[Any]:
    """Return the results of `function(first, last)` for pieces of consecutive chunks, in order.

    Pieces have about equally many elements; `pieces` is their number per thread. If a piece raises an error, it is
    raised here once all pieces have ended.
    """
    threads, count = torch.get_num_threads(), len(chunks)
    ends = np.cumsum(chunks[:, 2] - chunks[:, 1])
    pieces = min(count, threads * pieces, int(ends[-1]) // LEAST) if count else 0
    if threads == 1 or pieces < 2:
        return [function(0, count)] if count else []
    cuts = (np.searchsorted(ends, ends[-1] * np.arange(1, pieces) / pieces) + 1).tolist()
    bounds = sorted({0, *cuts, count})
    return _results([_pool("chunks", threads).submit(function, *ends) for ends in pairwise(bounds)])


def each(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Return `function(item)` for all items, in order; the function may run kernels.

    The first items run one by one. Only if they take long are the others run by threads: for short ones, waiting for
    the interpreter's lock costs more than it saves.
    """
    threads, start = torch.get_num_threads(), time.perf_counter()
    results: list[Any] = []
    for item in items:
        if threads > 1 and time.perf_counter() - start > LONG_ITEM_S * len(results) + TRIAL_S:
            break
        results.append(function(item))
    return results + _results([_pool("items", threads).submit(function, item) for item in items[len(results) :]])


def _results(futures: Sequence[Future[Any]]) -> list[Any]:
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
        wait(futures)  # kernels know only addresses: the caller must not free tensors before they end


@lru_cache(maxsize=4)
def _pool(purpose: str, threads: int) -> ThreadPoolExecutor:
    """Return the pool for one purpose: items wait for chunks, and in a shared pool they could block each other."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"mergesmith-{purpose}")

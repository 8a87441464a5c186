"""TensorJob that needs no answer, on threads of its own: hashing and writing beside the merging."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import torch

PENDING = 1 << 27  # bytes of tensors that may wait; one larger tensor waits alone


class Background:
    """A context in which calls on tensors run on `threads` other threads, in order of their start.

    Tensors that wait are bounded in bytes: who is faster than the threads waits for them. Errors are raised by a later
    `submit` or at the end of the context. Left by an error, the context drops the calls that have not begun.
    """

    def __init__(self, threads: int, *, pending: int = PENDING) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mergesmith-background")
        self._limit, self._bytes = pending, 0
        self._waiting: deque[tuple[Future[Any], int]] = deque()

    def __enter__(self) -> Background:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            while kind is None and self._waiting:
                self._wait()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def submit(self, call: Callable[..., Any], tensor: torch.Tensor, *arguments: Any) -> None:
        """Have `call(tensor, *arguments)` done. The tensor must not change any more."""
        while self._waiting and self._bytes + tensor.nbytes > self._limit:
            self._wait()
        self._waiting.append((self._pool.submit(call, tensor, *arguments), tensor.nbytes))
        self._bytes += tensor.nbytes

    def _wait(self) -> None:
        future, nbytes = self._waiting.popleft()
        self._bytes -= nbytes
        future.result()

"""Background threads that hash and write tensors while others are being merged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import torch

PENDING = 1 << 27  # bytes of pending tensors; a larger tensor waits until no other is pending


class Background:
    """A context in which calls on tensors run on `threads` background threads, started in the order of submission.

    Pending tensors take at most `pending` bytes: `submit` blocks until there is space. An error of a call is raised by
    a later `submit` or at the end of the context. If the context is left by an error, calls that have not started are
    cancelled.
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
        """Schedule `call(tensor, *arguments)`. The tensor must not change afterwards."""
        while self._waiting and self._bytes + tensor.nbytes > self._limit:
            self._wait()
        self._waiting.append((self._pool.submit(call, tensor, *arguments), tensor.nbytes))
        self._bytes += tensor.nbytes

    def _wait(self) -> None:
        future, nbytes = self._waiting.popleft()
        self._bytes -= nbytes
        future.result()

"""Copies source tensors from the host's memory to the device ahead of their use, on a separate CUDA stream.

Two buffers alternate: while one is read, the other is filled. A group that exceeds GROUP_BYTES, because one task's
sources do, is alone on the device. So at most `buffer_bytes` are used, whatever the size of the model. A yielded group
is valid until the next one is requested.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence

import torch

from ..bank.model_bank import ModelBank
from ..planning.merge_plan import TensorTask

BUFFERS = 2
GROUP_BYTES = 256 << 20  # bytes of all sources of the tasks that are copied together
ALIGNMENT = 512  # bytes


def staged(tasks: Iterable[TensorTask], bank: ModelBank) -> Iterator[tuple[TensorTask, bool]]:
    """Yield (task, whether it must be merged before the next is requested), with the task's sources on the device.

    If the bank streams from the host's memory, `bank.tensor` returns copies that are valid until the next group.
    """
    if not bank.tensors.streams:
        yield from ((task, False) for task in tasks)
        return
    groups = list(_groups(tasks, bank))
    keys = [list({key for task in group for key in task.inputs if bank.tensors.mapped(key)}) for group in groups]
    tensors = ([bank.tensors.host(key) for key in group_keys] for group_keys in keys)
    for group, group_keys, copies in zip(groups, keys, streamed(tensors, bank.device), strict=True):
        with bank.tensors.staging(dict(zip(group_keys, copies, strict=True))):
            yield from ((task, task is group[-1]) for task in group)


def _groups(tasks: Iterable[TensorTask], bank: ModelBank) -> Iterator[list[TensorTask]]:
    group: list[TensorTask] = []
    size = 0
    for task in tasks:
        nbytes = _buffer_size(bank.tensors.host(key) for key in task.inputs if bank.tensors.mapped(key))
        if group and size + nbytes > GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(task)
        size += nbytes
    if group:
        yield group


def buffer_bytes(largest_task: int, sources: int) -> int:
    """Return the most device memory that streaming `sources` bytes takes, at most `largest_task` bytes for one task."""
    return max(min(BUFFERS * GROUP_BYTES, sources), largest_task)


def _buffer_size(tensors: Iterable[torch.Tensor]) -> int:
    return sum(-(-x.nbytes // ALIGNMENT) * ALIGNMENT for x in tensors)


def streamed(
    groups: Iterable[Sequence[torch.Tensor]], device: torch.device
) -> Generator[tuple[torch.Tensor, ...], None, None]:
    """Yield copies of each group's tensors on the device, valid until the next group is requested."""
    lane = _Lane(device)
    free = deque(_Buffer(lane) for _ in range(BUFFERS))
    filled: deque[tuple[_Buffer, tuple[torch.Tensor, ...]]] = deque()

    def oldest() -> Iterator[tuple[torch.Tensor, ...]]:
        buffer, tensors = filled.popleft()
        lane.wait_for(buffer.ready)
        yield tensors
        buffer.consumed = lane.mark()
        free.append(buffer)

    def alone(group: Sequence[torch.Tensor]) -> Iterator[tuple[torch.Tensor, ...]]:
        while filled:
            yield from oldest()
        for buffer in free:
            buffer.release()
        filled.append((free[0], free.popleft().fill(group)))
        yield from oldest()
        free[-1].release()

    try:
        for group in groups:
            if _buffer_size(group) > GROUP_BYTES:
                yield from alone(group)
                continue
            buffer = free.popleft()
            filled.append((buffer, buffer.fill(group)))
            if not free:
                yield from oldest()
        while filled:
            yield from oldest()
    finally:
        lane.finish()


class _Lane:
    """The CUDA stream for copies, synchronized with the current (compute) stream; without effect on the CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    @property
    def _compute(self) -> torch.cuda.Stream:
        return torch.cuda.current_stream(self.device)

    def mark(self) -> torch.Event | None:
        """Record an event that completes when all computation so far is done."""
        return None if self.copies is None else self._compute.record_event()

    def wait_for(self, event: torch.Event | None) -> None:
        """Let the computation wait for a copy."""
        if event is not None:
            self._compute.wait_event(event)

    def finish(self) -> None:
        """Let later computation wait for pending copies, so that buffers can be freed."""
        if self.copies is not None:
            self._compute.wait_stream(self.copies)


class _Buffer:
    """Device memory for one group of tensors; it grows to the largest group so far."""

    def __init__(self, lane: _Lane) -> None:
        self._lane = lane
        self._memory = torch.empty(0, dtype=torch.uint8, device=lane.device)
        self.ready: torch.Event | None = None
        self.consumed: torch.Event | None = None

    def release(self) -> None:
        """Free the memory; allowed once the computation waits for the last copy into it."""
        self._memory = self._memory.new_empty(0)

    def fill(self, group: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Start copying tensors into the buffer, after its previous content has been consumed."""
        sizes = [-(-x.nbytes // ALIGNMENT) * ALIGNMENT for x in group]
        if sum(sizes) > len(self._memory):
            # Memory is freed and reused in the order of the compute stream, which may still write to the new block.
            self._memory = torch.empty(sum(sizes), dtype=torch.uint8, device=self._lane.device)
            self.consumed = self._lane.mark()
        tensors, start = [], 0
        for source, size in zip(group, sizes, strict=True):
            part = self._memory[start : start + source.nbytes]
            tensors.append(part.view(source.dtype).view(source.shape))
            start += size
        copies = self._lane.copies
        if copies is None:
            _copy(tensors, group)
            return tuple(tensors)
        if self.consumed is not None:
            copies.wait_event(self.consumed)
        with torch.cuda.stream(copies):
            _copy(tensors, group)
        self.ready = copies.record_event()
        return tuple(tensors)


def _copy(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source, non_blocking=True)

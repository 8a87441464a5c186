"""Page-locked host memory for tensors that are copied to a device, allocated in large blocks.

torch rounds every page-locked allocation up to a power of two: a tensor of 129.5 MiB takes 256 MiB. Blocks whose size
is a power of two, each shared by many tensors, take little more than what they hold.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable

import torch

BLOCK_BYTES = 1 << 30  # a block of many tensors; larger tensors have a block of the next power of two
ALIGNMENT = 512  # bytes


class PinnedMemoryWarning(UserWarning):
    """Memory cannot be page-locked, so copies to the device are slower."""


class BlockLayout:
    """Places of tensors in blocks whose sizes are powers of two; a tensor goes into the first block with room."""

    def __init__(self) -> None:
        self.block_bytes: list[int] = []
        self._used: list[int] = []

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks."""
        return sum(self.block_bytes)

    def place(self, nbytes: int) -> tuple[int, int]:
        """Return (block, offset) for a tensor; the block is new if its index has not been returned before."""
        size = -(-nbytes // ALIGNMENT) * ALIGNMENT
        for block, used in enumerate(self._used):
            if used + size <= self.block_bytes[block]:
                self._used[block] += size
                return block, used
        # Small models take small blocks: a new one is as large as all earlier ones together, up to BLOCK_BYTES.
        self.block_bytes.append(max(_power_of_two(size), min(BLOCK_BYTES, _power_of_two(self.nbytes))))
        self._used.append(size)
        return len(self._used) - 1, 0


def pinned_bytes(sizes: Iterable[int]) -> int:
    """Return the bytes of host memory that tensors of these sizes take in page-locked blocks."""
    layout = BlockLayout()
    for size in sizes:
        layout.place(size)
    return layout.nbytes


def allocate_pinned(nbytes: int) -> torch.Tensor:
    """Return page-locked memory of `nbytes` bytes, uint8."""
    return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)


class PinnedMemory:
    """Copies of tensors in page-locked memory. Several threads may add tensors at the same time."""

    def __init__(self, allocate: Callable[[int], torch.Tensor] = allocate_pinned) -> None:
        self._allocate = allocate
        self._layout = BlockLayout()
        self._blocks: list[torch.Tensor] = []
        self._lock = threading.Lock()
        self.failed = False

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a page-locked copy; the tensor itself, with one warning, once memory can no longer be page-locked."""
        place = self._reserve(tensor.nbytes)
        if place is None:
            return tensor
        kept = place.view(tensor.dtype).view(tensor.shape)
        return kept.copy_(tensor)

    def _reserve(self, nbytes: int) -> torch.Tensor | None:
        with self._lock:
            if self.failed:
                return None
            block, offset = self._layout.place(nbytes)
            if block == len(self._blocks):
                try:
                    self._blocks.append(self._allocate(self._layout.block_bytes[block]))
                except (RuntimeError, MemoryError) as error:  # a limit of the system, the container or the driver
                    self.failed = True
                    warnings.warn(_failure(self._blocks, error), PinnedMemoryWarning, stacklevel=4)
                    return None
            return self._blocks[block][offset : offset + nbytes]


def _failure(blocks: Iterable[torch.Tensor], error: BaseException) -> str:
    reason = str(error).partition("\n")[0] or type(error).__name__
    pinned = sum(block.nbytes for block in blocks) / 1e9
    return (
        f"after {pinned:.1f} GB, no more host memory can be page-locked, so merging is slower: {reason}; "
        "raise the limit (ulimit -l, the container's memory), or use fewer workers"
    )


def _power_of_two(nbytes: int) -> int:
    return 1 << max(0, nbytes - 1).bit_length()

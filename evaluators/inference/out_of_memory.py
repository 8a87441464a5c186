"""Recognizes out-of-memory errors, and frees the device memory of a failed attempt."""

from __future__ import annotations

import gc

import torch

_CPU_MESSAGES = ("not enough memory", "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception reports a lack of memory on a device or on the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _CPU_MESSAGES)


def release() -> None:
    """Return unused CUDA memory to the device. Call it outside the handler of the error that holds the tensors."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()

"""Tells device errors apart (out of memory, or a device that is lost), and frees the memory of a failed attempt.

CUDA, its libraries, Triton and torch report the same two conditions by many classes and messages.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

_OUT_OF_MEMORY = (
    "out of memory",  # torch's allocator, "CUDA error: ...", "HIP error: ...", "Triton Error [CUDA]: ..."
    "_STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN, cuSOLVER, cuSPARSE, which allocate outside torch's allocator
    "not enough memory",  # the CPU allocators of torch
    "can't allocate memory",
)
_DEVICE_ERROR = ("CUDA error", "HIP error")
# Triton reports launches that never ran ("invalid argument") in the same form as faults of the device.
_TRITON_ERROR = "Triton Error ["
_FAULTS = (
    "illegal memory access",
    "illegal address",
    "illegal instruction",
    "misaligned address",
    "unspecified launch failure",
    "launch timed out",
    "device-side assert",
    "uncorrectable ECC error",
    "hardware stack error",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception, or a cause of it, reports a lack of memory on a device or on the host."""
    return any(_reports_memory(cause) for cause in _causes(error))


def is_device_lost(error: BaseException) -> bool:
    """Return whether every later CUDA call of this process will fail, as after a fault in a kernel."""
    return any(_reports_loss(cause) for cause in _causes(error))


def release() -> None:
    """Return unused CUDA memory to the device. Call it outside the handler of the error that holds the tensors."""
    import torch  # only here, so that the driver of a run can import this module quickly

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _reports_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _OUT_OF_MEMORY)


def _reports_loss(error: BaseException) -> bool:
    if _reports_memory(error):
        return False
    text = str(error)
    if type(error).__name__ == "AcceleratorError":  # since torch 2.8
        return True
    if not isinstance(error, RuntimeError):
        return False
    if _TRITON_ERROR in text:
        return any(fault in text for fault in _FAULTS)
    return any(named in text for named in _DEVICE_ERROR)

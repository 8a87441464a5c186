"""Out-of-memory errors, lost devices and faults of a candidate, by the classes and messages of the libraries."""

from __future__ import annotations

import pytest
import torch

from mergesmith.evaluators import is_device_lost, is_out_of_memory

MEMORY, LOST, CANDIDATE = "out of memory", "a lost device", "a fault of the candidate"
ACCELERATOR = getattr(torch, "AcceleratorError", RuntimeError)  # torch 2.8 and newer
ERRORS = [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), MEMORY),
    (MemoryError(), MEMORY),
    (ACCELERATOR("CUDA error: out of memory"), MEMORY),
    (RuntimeError("CUDA error: out of memory"), MEMORY),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), MEMORY),
    (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), MEMORY),
    (RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"), MEMORY),
    (RuntimeError("Triton Error [CUDA]: out of memory"), MEMORY),
    (RuntimeError("HIP error: out of memory"), MEMORY),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), MEMORY),
    (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), MEMORY),
    (ACCELERATOR("CUDA error: an illegal memory access was encountered"), LOST),
    (RuntimeError("CUDA error: an illegal memory access was encountered"), LOST),
    (RuntimeError("CUDA error: device-side assert triggered"), LOST),
    (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"), LOST),
    (RuntimeError("CUDA error: uncorrectable ECC error encountered"), LOST),
    (RuntimeError("HIP error: an illegal memory access was encountered"), LOST),
    (RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"), LOST),
    (RuntimeError("Triton Error [CUDA]: misaligned address"), LOST),
    (RuntimeError("Triton Error [CUDA]: unspecified launch failure"), LOST),
    (RuntimeError("Triton Error [CUDA]: invalid argument"), CANDIDATE),
    (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), CANDIDATE),
    (ValueError("out of memory"), CANDIDATE),
]


@pytest.mark.parametrize(("error", "meaning"), ERRORS, ids=[f"{type(e).__name__}-{str(e)[:50]}" for e, _ in ERRORS])
def test_every_message_has_one_meaning(error: Exception, meaning: str) -> None:
    assert (is_out_of_memory(error), is_device_lost(error)) == (meaning == MEMORY, meaning == LOST)
    wrapped = RuntimeError("scoring failed")
    wrapped.__cause__ = error
    assert (is_out_of_memory(wrapped), is_device_lost(wrapped)) == (meaning == MEMORY, meaning == LOST)

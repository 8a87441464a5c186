"""What launches share: supported tensors, dtype codes, tables of addresses and chunks on the device."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import numpy as np
import torch

CODES = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 2}  # dtypes as kernels know them
BLOCK = 1024  # elements at a time: 16 bytes of bfloat16 for each of 128 threads
STEP = 16 * BLOCK  # elements per program
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # kernels then run on the CPU
EXACT = {"enable_fp_fusion": False}  # launch option: each multiplication and addition is rounded


def supported(tensor: torch.Tensor, device: torch.device) -> bool:
    """Return whether kernels can read and write the tensor in place."""
    return (
        tensor.device == device
        and (tensor.is_cuda or INTERPRETED)
        and tensor.dtype in CODES
        and tensor.is_contiguous()
        and tensor.data_ptr() % tensor.element_size() == 0
    )


def codes(tensors: Sequence[torch.Tensor]) -> int:
    """Return the codes of the tensors' dtypes as one integer, two bits for each, the first in the lowest bits."""
    return sum(CODES[tensor.dtype] << 2 * place for place, tensor in enumerate(tensors))


def aligned(tensors: Sequence[torch.Tensor]) -> bool:
    """Return whether all tensors begin at multiples of 16 bytes."""
    return all(tensor.data_ptr() % 16 == 0 for tensor in tensors)


def upload(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy a small array to the device, from page-locked memory so that the host does not wait for the device."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.clone()


def table(rows: Sequence[Sequence[int]] | Sequence[int] | np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy integers to the device, int64."""
    return upload(np.asarray(rows, dtype=np.int64), device)


@lru_cache(maxsize=64)
def chunk_table(sizes: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return (tensor, start, stop) of pieces of at most STEP elements of tensors of these sizes, (C, 3) int64.

    The table is on the device, and cached because every candidate has the same tensors.
    """
    lengths = np.array(sizes, dtype=np.int64)
    counts = -(-lengths // STEP)
    tensors = np.repeat(np.arange(len(sizes)), counts)
    starts = (np.arange(len(tensors)) - np.repeat(np.cumsum(counts) - counts, counts)) * STEP
    return table(np.stack([tensors, starts, np.minimum(starts + STEP, lengths[tensors])], axis=1), device)


def on(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which kernels are launched on this device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()

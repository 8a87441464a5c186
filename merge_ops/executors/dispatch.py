"""Dispatches tensor jobs to compiled kernels, or to the torch reference if no kernel supports them.

Both give identical bits.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from shutil import which
from typing import NamedTuple

import numpy as np
import torch

from ..numerics import reductions
from .job import TensorJob
from .reference import execute

COMPILERS = {"cpu": "numba", "cuda": "triton"}  # by device type


class Gram(NamedTuple):
    """A kernel for `reductions.gram_matrix`, and whether it can read a tensor."""

    can_read: Callable[[torch.Tensor], bool]
    matrix: Callable[[Sequence[torch.Tensor], torch.Tensor | None], np.ndarray]


class SlowMergeWarning(UserWarning):
    """Kernels cannot be compiled; plain torch operations replace them."""


class Executor(NamedTuple):
    """The kernels for one type of device."""

    can_run: Callable[[TensorJob], bool]
    run_all: Callable[[Sequence[TensorJob]], None]
    gram: Gram | None = None  # None: the reference computes Gram matrices


def run(jobs: Sequence[TensorJob]) -> None:
    """Fill every job's `out`; all jobs are on one type of device."""
    left = list(jobs)
    executor = executor_for(jobs[0].out.device.type) if jobs else None
    if executor is not None:
        supported = [executor.can_run(job) for job in jobs]
        executor.run_all([job for job, can in zip(jobs, supported, strict=True) if can])
        left = [job for job, can in zip(jobs, supported, strict=True) if not can]
    for job in left:
        job.out.copy_(execute(job.plan, job.inputs, base=job.base, seed=job.seed, name=job.name))


def gram_matrix(tensors: Sequence[torch.Tensor], base: torch.Tensor | None = None) -> np.ndarray:
    """Return the bits of `reductions.gram_matrix`, by a kernel if there is one."""
    everything = tensors if base is None else (*tensors, base)
    executor = executor_for(tensors[0].device.type)
    kernel = None if executor is None else executor.gram
    if kernel is not None and all(kernel.can_read(x) for x in everything):
        return kernel.matrix(tensors, base)
    return reductions.gram_matrix(tensors, base)


def executor_name(device_type: str) -> str:
    """Return what merges on a type of device: "numba", "triton", or "torch" if no kernels can be compiled."""
    return COMPILERS[device_type] if executor_for(device_type) is not None else "torch"


def kernel_report(device_type: str) -> str:
    """Return which kernels merge on a type of device, or why torch operations do, as a sentence for the user."""
    executor, reason = _load(device_type)
    if executor is None:
        return f"Merge kernels: none on {device_type}; slower torch operations merge: {reason}."
    compiler = c_compiler() if device_type == "cuda" else None
    return f"Merge kernels: {COMPILERS[device_type]}{f' (C compiler: {compiler})' if compiler else ''}."


def executor_for(device_type: str) -> Executor | None:
    """Return the kernels for a type of device; None if there are none, or their compiler cannot be used."""
    return _load(device_type)[0]


def c_compiler() -> str | None:
    """Return the path of the C compiler with which Triton builds its launchers; None if there is none."""
    return next(filter(None, (os.environ.get("CC"), which("clang"), which("gcc"))), None)


@lru_cache
def _load(device_type: str) -> tuple[Executor | None, str]:
    """Return the kernels for a type of device and "", or None and the reason."""
    compiler = COMPILERS.get(device_type)
    if compiler is None:
        return None, "there are none for it"
    if not find_spec(compiler):
        return None, f"{compiler} is not installed"
    try:
        return (_cpu_executor() if device_type == "cpu" else _cuda_executor()), ""
    except torch.OutOfMemoryError:  # says nothing about the compiler
        raise
    except Exception as error:  # installed, but unusable: incompatible packages, no C compiler, no writable cache
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    if device_type == "cuda" and c_compiler() is None:
        reason += " (there is no C compiler: install gcc, or set CC)"
    warnings.warn(f"{compiler} cannot be used, so merging is slow: {reason}", SlowMergeWarning, stacklevel=3)
    return None, reason


def _cpu_executor() -> Executor:
    from .cpu.executor import can_run, gram_matrix, run_all, supported

    return Executor(can_run, run_all, Gram(supported, gram_matrix))


def _cuda_executor() -> Executor:
    from .gpu.executor import can_run, run_all
    from .gpu.probe import check_kernels

    check_kernels(torch.device("cuda", torch.cuda.current_device()))
    return Executor(can_run, run_all)

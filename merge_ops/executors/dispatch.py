"""Dispatches tensor jobs to compiled kernels, or to the torch reference if no kernel supports them.

Both give identical bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
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


@lru_cache
def executor_for(device_type: str) -> Executor | None:
    """Return the kernels for a type of device; None if there are none, or their compiler cannot be used."""
    compiler = COMPILERS.get(device_type)
    if compiler is None or not find_spec(compiler):
        return None
    try:
        if device_type == "cpu":
            from .cpu.executor import can_run, gram_matrix, run_all, supported

            return Executor(can_run, run_all, Gram(supported, gram_matrix))
        from .gpu.executor import can_run, run_all

        return Executor(can_run, run_all)
    except (ImportError, SystemError, AttributeError) as error:  # installed, but incompatible with other packages
        warnings.warn(f"{compiler} cannot be used, so merging is slow: {error}", SlowMergeWarning, stacklevel=2)
        return None

"""Picks who runs a work: compiled kernels where they can, else plain torch operations; the bits are the same."""

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


class Gram(NamedTuple):
    """A kernel for `reductions.gram_matrix`, and whether it can read a tensor."""

    can_read: Callable[[torch.Tensor], bool]
    matrix: Callable[[Sequence[torch.Tensor], torch.Tensor | None], np.ndarray]


class SlowMergeWarning(UserWarning):
    """Kernels cannot be compiled; plain torch operations serve."""


class Executor(NamedTuple):
    """Kernels for one kind of device."""

    can_run: Callable[[TensorJob], bool]
    run_all: Callable[[Sequence[TensorJob]], None]
    gram: Gram | None = None  # where it has one of its own


def run(works: Sequence[TensorJob]) -> None:
    """Fill every work's `out`."""
    left = list(works)
    executor = executor_for(works[0].out.device.type) if works else None
    if executor is not None:
        ready = [executor.can_run(work) for work in works]
        executor.run_all([work for work, can in zip(works, ready, strict=True) if can])
        left = [work for work, can in zip(works, ready, strict=True) if not can]
    for work in left:
        work.out.copy_(execute(work.plan, work.inputs, base=work.base, seed=work.seed, name=work.name))


def gram_matrix(tensors: Sequence[torch.Tensor], base: torch.Tensor | None = None) -> np.ndarray:
    """As `reductions.gram_matrix`, the same bits."""
    everything = tensors if base is None else (*tensors, base)
    executor = executor_for(tensors[0].device.type)
    own = None if executor is None else executor.gram
    if own is not None and all(own.can_read(x) for x in everything):
        return own.matrix(tensors, base)
    return reductions.gram_matrix(tensors, base)


@lru_cache
def executor_for(device: str) -> Executor | None:
    """The kernels for a kind of device; None where there are none, or what they are made with is not installed."""
    compiler = {"cpu": "numba", "cuda": "triton"}.get(device)
    if compiler is None or not find_spec(compiler):
        return None
    try:
        if device == "cpu":
            from .cpu.executor import can_run, gram_matrix, run_all, supported

            return Executor(can_run, run_all, Gram(supported, gram_matrix))
        from .gpu.executor import can_run, run_all

        return Executor(can_run, run_all)
    except (ImportError, SystemError, AttributeError) as error:  # it is installed, but does not fit its neighbours
        warnings.warn(f"{compiler} cannot be used, so merging is slow: {error}", SlowMergeWarning, stacklevel=2)
        return None

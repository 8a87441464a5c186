"""A first launch on a device, which finds out whether kernels can be compiled, run, and trusted there.

Triton is imported without a compiler, a driver or a writable cache; their absence shows at the first launch.
"""

from __future__ import annotations

import torch

from ...methods import LinearCombination
from ..job import TensorJob
from ..reference import execute
from .executor import run_all

SIZE = 1000  # elements: not a multiple of a block


def check_kernels(device: torch.device) -> None:
    """Launch a small kernel and compare its result with that of torch operations.

    Raises:
        RuntimeError: the result differs.
        Exception: whatever Triton raises if it cannot compile or launch.
    """
    inputs = tuple(torch.linspace(start, 3.0, SIZE, device=device).to(torch.bfloat16) for start in (-1.0, 2.0))
    plan = LinearCombination((0.25, 0.75))
    out = torch.zeros_like(inputs[0])
    job = TensorJob(plan, inputs, out, None, 0, "probe", remember=lambda _indices, _key, make: make())
    run_all([job])
    expected = execute(plan, inputs, base=None, seed=0, name="probe").to(out.dtype)
    if not torch.equal(out, expected):
        raise RuntimeError("a compiled kernel computes other values than torch operations")

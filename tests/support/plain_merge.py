"""Merges plain tensors by a method's name, without files."""

from __future__ import annotations

from typing import Any

import torch

from mergesmith.merge_ops.bank.input_statistics import InputStatistics
from mergesmith.merge_ops.executors.reference import execute
from mergesmith.merge_ops.methods import METHODS, Parameter


def merge(
    method_name: str,
    inputs: list[torch.Tensor],
    per_input: list[dict[str, Any]],
    base: int | None = None,
    depth: float | None = None,
    seed: int = 0,
    **shared: Any,
) -> torch.Tensor:
    method = METHODS[method_name]

    def value_of(parameter: Parameter, i: int | None) -> Any:
        return (shared if i is None else per_input[i]).get(parameter.name, parameter.default)

    values = method.values(len(per_input), value_of, base=base, depth=depth)
    plan = method.plan(values, InputStatistics(lambda: inputs, base))
    return execute(plan, inputs, base=base, seed=seed, name="x")


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


BASE, A, B = noise(0, 20, 30), noise(0, 20, 30) + 0.2 * noise(1, 20, 30), noise(0, 20, 30) + 0.2 * noise(2, 20, 30)

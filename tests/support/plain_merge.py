"""Merges plain tensors by a method's name, without files."""

from __future__ import annotations

from typing import Any

import torch

from mergesmith.merge_ops.bank.input_statistics import InputStatistics
from mergesmith.merge_ops.executors.reference import execute
from mergesmith.merge_ops.methods import METHODS, ParameterValues, Scope


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
    tensor = {p.name: shared.get(p.name, p.default) for p in method.parameters if p.scope is Scope.TENSOR}
    defaults = {p.name: p.default for p in method.parameters if p.scope is not Scope.TENSOR}
    given = tuple({} if i == base else {**defaults, **values} for i, values in enumerate(per_input))
    plan = method.plan(ParameterValues(tensor, given, base, depth), InputStatistics(lambda: inputs, base))
    return execute(plan, inputs, base=base, seed=seed, name="x")


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


BASE, A, B = noise(0, 20, 30), noise(0, 20, 30) + 0.2 * noise(1, 20, 30), noise(0, 20, 30) + 0.2 * noise(2, 20, 30)

"""Every method on plain tensors against mergekit's own results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from golden import MethodCase, method_cases

from mergesmith.merge_ops.execute import execute, largest_mask
from mergesmith.merge_ops.methods import METHODS, MergeMethod, Numbers, Scope
from mergesmith.merge_ops.reductions import gram_matrix

CASES = [case for case in method_cases() if case.method in METHODS]
# Rounding, relative to the largest value: float32's, and bfloat16's where mergekit computed in it (we do not).
TOLERANCE = {"float32": 2e-6, "bfloat16": 2e-2}


class Statistics:
    """Statistics straight from the tensors."""

    def __init__(self, inputs: list[torch.Tensor]) -> None:
        self.inputs = inputs

    def gram(self) -> np.ndarray:
        return gram_matrix(self.inputs)


def numbers_of(case: MethodCase, method: MergeMethod) -> Numbers:
    tensor = {p.name: case.parameters.get(p.name, p.default) for p in method.parameters if p.scope is Scope.TENSOR}
    inputs: list[dict[str, Any]] = []
    for i in range(len(case.input_keys)):
        given = {name: values[i] for name, values in case.per_input.items() if values[i] is not None}
        defaults = {p.name: p.default for p in method.parameters if p.scope is not Scope.TENSOR}
        inputs.append({} if i == case.base else {**defaults, **given})
    return Numbers(tensor, tuple(inputs), case.base)


def merged(case: MethodCase) -> torch.Tensor:
    method, inputs = METHODS[case.method], case.inputs()
    numbers = numbers_of(case, method)
    plan = method.plan(numbers, Statistics(inputs))
    return execute(plan, inputs, base=case.base, seed=0, name=case.id)


def decided(case: MethodCase) -> torch.Tensor:
    """Elements that do not hang on which of several equal magnitudes a method keeps."""
    inputs = case.inputs()
    decided = torch.ones_like(inputs[0], dtype=torch.bool)
    if not case.ties:
        return decided
    assert case.base is not None
    densities = case.per_input["density"]
    for i, x in enumerate(inputs):
        if i != case.base and densities[i] is not None and densities[i] < 1:
            delta = x - inputs[case.base]
            kept = delta.abs()[largest_mask(delta, densities[i])]
            decided &= delta.abs() != kept.min()
    return decided


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_equals_mergekit(case: MethodCase) -> None:
    ours, theirs = merged(case), case.expected()
    where = decided(case)
    scale = max(1e-12, float(theirs.float().abs().max()))
    difference = (ours.float() - theirs.float()).abs()[where]
    assert float(difference.max()) <= TOLERANCE[case.dtype] * scale


def test_every_method_has_cases() -> None:
    assert {case.method for case in CASES} == set(METHODS)


@pytest.mark.parametrize("case", [c for c in CASES if c.ties], ids=lambda case: case.id)
def test_tied_cases_keep_exactly_the_share(case: MethodCase) -> None:
    assert case.base is not None
    inputs = case.inputs()
    for i, density in enumerate(case.per_input["density"]):
        if density is not None and density < 1:
            mask = largest_mask(inputs[i] - inputs[case.base], density)
            assert int(mask.sum()) == max(1, int(density * mask.numel()))

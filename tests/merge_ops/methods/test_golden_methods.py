"""Every method on plain tensors against mergekit's own results."""

from __future__ import annotations

import pytest
import torch
from golden import MethodCase, method_cases

from mergesmith.merge_ops.bank.input_statistics import InputStatistics
from mergesmith.merge_ops.executors.reference import execute, largest_mask
from mergesmith.merge_ops.methods import METHODS, MergeMethod, ParameterValues
from mergesmith.merge_ops.methods.sce import energy_weighted, most_variable
from mergesmith.merge_ops.numerics.top_k import largest

CASES = [case for case in method_cases() if case.method in METHODS]
# Rounding, relative to the largest value: float32's, and bfloat16's where mergekit computed in it (we do not).
TOLERANCE = {"float32": 2e-6, "bfloat16": 2e-2}


def values_of(case: MethodCase, method: MergeMethod) -> ParameterValues:
    return method.values(len(case.input_keys), case.value_of, base=case.base)


def merged(case: MethodCase) -> torch.Tensor:
    method, inputs = METHODS[case.method], case.inputs()
    numbers = values_of(case, method)
    plan = method.plan(numbers, InputStatistics(lambda: inputs, case.base))
    return execute(plan, inputs, base=case.base, seed=0, name=case.id)


def decided(case: MethodCase) -> torch.Tensor:
    """Elements that do not hang on which of several equal magnitudes a method keeps."""
    inputs = case.inputs()
    decided = torch.ones_like(inputs[0], dtype=torch.bool)
    if not case.ties:
        return decided
    assert case.base is not None
    deltas = [x - inputs[case.base] for x in inputs]
    size = decided.numel()
    for i, delta in enumerate(deltas):
        density = case.per_input["density"][i]
        if density is None or density >= 1:
            continue
        if case.method.startswith("breadcrumbs"):
            count, gamma = int(density * size), case.per_input["gamma"][i]
            dropped = min(int(gamma * size), size - count)
            decided &= not_at_the_cut(delta, dropped) & not_at_the_cut(delta, dropped + count)
        else:
            decided &= not_at_the_cut(delta, max(1, int(density * size)))
    return decided


def not_at_the_cut(values: torch.Tensor, count: int) -> torch.Tensor:
    """Elements whose magnitude differs from that of the last of the `count` largest."""
    if count == 0:
        return torch.ones_like(values, dtype=torch.bool)
    last = values.abs()[largest(values, count)].min()
    return (values.abs() - last).abs() > 1e-6 * last


def differs_on_purpose(case: MethodCase) -> bool:
    """Cases where one different choice changes every element; each has a test of its own below."""
    # Which tied elements SCE selects changes the models' energies, and with them all weights.
    tied_selection = case.method == "sce" and case.ties
    # In bfloat16 mergekit's softmax and logarithm leave two digits of the divergence, and its mask is another.
    coarse_mask = case.method == "arcee_fusion" and case.dtype == "bfloat16"
    return tied_selection or coarse_mask


@pytest.mark.parametrize("case", [c for c in CASES if not differs_on_purpose(c)], ids=lambda case: case.id)
def test_equals_mergekit(case: MethodCase) -> None:
    ours, theirs = merged(case), case.expected()
    where = decided(case)
    scale = max(1e-12, float(theirs.float().abs().max()))
    difference = (ours.float() - theirs.float()).abs()[where]
    assert float(difference.max()) <= TOLERANCE[case.dtype] * scale


def test_every_method_has_cases() -> None:
    assert {case.method for case in CASES} == {name for name, method in METHODS.items() if method.mergekit}


@pytest.mark.parametrize("case", [c for c in CASES if c.ties and c.method == "ties"], ids=lambda case: case.id)
def test_tied_cases_keep_exactly_the_share(case: MethodCase) -> None:
    assert case.base is not None
    inputs = case.inputs()
    for i, density in enumerate(case.per_input["density"]):
        if density is not None and density < 1:
            mask = largest_mask(inputs[i] - inputs[case.base], density)
            assert int(mask.sum()) == max(1, int(density * mask.numel()))


@pytest.mark.parametrize("case", [c for c in CASES if c.ties and c.method == "sce"], ids=lambda case: case.id)
def test_sce_with_mergekits_choice_of_ties_is_mergekits_result(case: MethodCase) -> None:
    assert case.base is not None
    inputs, theirs = case.inputs(), case.expected()
    deltas = [x - inputs[case.base] for i, x in enumerate(inputs) if i != case.base]
    ours = most_variable(deltas, case.parameters["select_topk"])
    selected = theirs != inputs[case.base]  # a selected element moves: some model has the elected sign
    assert int(selected.sum()) == int(ours.sum())
    variance = torch.stack(deltas).var(dim=0, unbiased=False)
    assert torch.equal(variance[selected].sort().values, variance[ours].sort().values)
    merged = inputs[case.base] + energy_weighted([delta * selected for delta in deltas])
    torch.testing.assert_close(merged, theirs, rtol=0, atol=TOLERANCE["float32"] * float(theirs.abs().max()))


def test_arcee_fusion_in_bfloat16_swaps_whole_elements_as_mergekit_does() -> None:
    (case,) = [c for c in CASES if c.method == "arcee_fusion" and c.dtype == "bfloat16"]
    base, other = (x.float() for x in case.inputs())
    ours, theirs = merged(case), case.expected().float()
    for result in (ours, theirs):
        assert bool(((result - base).abs() < 1e-2 * base.abs()).logical_or((result - other).abs() < 1e-2).all())
    assert float((ours != theirs).float().mean()) < 0.1


def test_arcee_fusion_in_bfloat16_differs_because_of_mergekits_divergences() -> None:
    """In bfloat16 they are mostly rounding errors; ours is the choice of float64."""
    (case,) = [c for c in CASES if c.method == "arcee_fusion" and c.dtype == "bfloat16"]
    base, other = case.inputs()

    def fused(dtype: torch.dtype) -> torch.Tensor:
        old, new = base.to(dtype), other.to(dtype)
        p, q = (torch.softmax(x, dim=-1) + 1e-8 for x in (new, old))
        importance = (new - old).abs() * torch.sum(p * torch.log(p / q), dim=-1, keepdim=True)
        ordered = importance.flatten().sort().values
        low, middle, high = (ordered[int(share * (len(ordered) - 1))] for share in (0.25, 0.5, 0.75))
        mask = (importance >= middle + 1.5 * (high - low)).float()
        return (old + (new - old) * mask).to(torch.bfloat16)

    ours, theirs = merged(case).to(torch.bfloat16), case.expected().to(torch.bfloat16)
    assert torch.equal(ours, fused(torch.float64))
    coarse = fused(torch.bfloat16)
    # Which bits a softmax in bfloat16 has depends on the processor.
    assert float((coarse != theirs).float().mean()) < 0.02
    assert 0.05 < float((ours != theirs).float().mean()) < 0.1

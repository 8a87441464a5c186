"""Limits in which a method's result is known without computing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mergesmith.merge_ops import MergeError, ModelBank, Recipe, Setting, Source, materialize
from mergesmith.merge_ops.execute import execute, largest_mask
from mergesmith.merge_ops.methods import METHODS, Numbers, Scope
from mergesmith.merge_ops.statistics import InputStatistics


def merge(
    method_name: str,
    inputs: list[torch.Tensor],
    per_input: list[dict[str, Any]],
    base: int | None = None,
    depth: float | None = None,
    **shared: Any,
) -> torch.Tensor:
    method = METHODS[method_name]
    tensor = {p.name: shared.get(p.name, p.default) for p in method.parameters if p.scope is Scope.TENSOR}
    defaults = {p.name: p.default for p in method.parameters if p.scope is not Scope.TENSOR}
    given = tuple({} if i == base else {**defaults, **values} for i, values in enumerate(per_input))
    plan = method.plan(Numbers(tensor, given, base, depth), InputStatistics(lambda: inputs, base))
    return execute(plan, inputs, base=base, seed=0, name="x")


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


BASE, A, B = noise(0, 20, 30), noise(0, 20, 30) + 0.2 * noise(1, 20, 30), noise(0, 20, 30) + 0.2 * noise(2, 20, 30)


def test_ties_with_agreeing_signs_is_the_weighted_mean_task_vector() -> None:
    delta = 0.1 + noise(3, 20, 30).abs()
    sign = torch.where(noise(4, 20, 30) > 0, 1.0, -1.0)
    a, b = BASE + sign * delta, BASE + sign * 2 * delta
    merged = merge("ties", [BASE, a, b], [{}, {"weight": 1.0}, {"weight": 3.0}], base=0, normalize=True)
    torch.testing.assert_close(merged, BASE + sign * delta * (1 + 3 * 2) / 4, rtol=1e-5, atol=1e-5)


def test_ties_normalized_with_one_model_gives_that_model_whatever_its_weight() -> None:
    for weight in (0.3, -0.3, 7.0):
        merged = merge("ties", [BASE, A], [{}, {"weight": weight}], base=0)
        torch.testing.assert_close(merged, A, rtol=1e-5, atol=1e-6)


def test_ties_drops_what_disagrees() -> None:
    base = torch.zeros(4)
    a, b = torch.tensor([1.0, -1.0, 2.0, 0.0]), torch.tensor([3.0, 2.0, -1.0, 0.0])
    merged = merge("ties", [base, a, b], [{}, {"weight": 1.0}, {"weight": 1.0}], base=0, normalize=False)
    assert merged.tolist() == [4.0, 2.0, 2.0, 0.0]


def test_a_sum_of_zero_elects_plus() -> None:
    base = torch.zeros(2)
    a, b = torch.tensor([1.0, -2.0]), torch.tensor([-1.0, 2.0])
    merged = merge("ties", [base, a, b], [{}, {"weight": 1.0}, {"weight": 1.0}], base=0, normalize=False)
    assert merged.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("other", [A, 5 * noise(9, 20, 30)], ids=["near", "far"])
@pytest.mark.parametrize("base", [0, 1])
def test_slerp_ends_are_the_inputs(other: torch.Tensor, base: int) -> None:
    inputs = [BASE, other] if base == 0 else [other, BASE]
    assert torch.equal(merge("slerp", inputs, [{}, {}], base=base, t=0.0), BASE)
    assert torch.equal(merge("slerp", inputs, [{}, {}], base=base, t=1.0), other)


def test_slerp_between_unit_vectors_stays_on_the_sphere() -> None:
    one, other = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    for t in (0.25, 0.5, 0.9):
        merged = merge("slerp", [one, other], [{}, {}], base=0, t=t)
        assert float(merged.norm()) == pytest.approx(1.0, rel=1e-6)
        assert float(merged[1]) == pytest.approx(np.sin(t * np.pi / 2), rel=1e-6)


def test_slerp_of_zero_vectors_is_zero() -> None:
    assert torch.equal(merge("slerp", [torch.zeros(5), torch.zeros(5)], [{}, {}], base=0, t=0.4), torch.zeros(5))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_dare_at_density_1_is_task_arithmetic(normalize: bool, scale: float) -> None:
    weights = [{}, {"weight": 0.6}, {"weight": -0.2}]
    shared = {"normalize": normalize, "lambda": scale}
    dare = merge("dare_linear", [BASE, A, B], [{**w, "density": 1.0} if w else w for w in weights], base=0, **shared)
    assert torch.equal(dare, merge("task_arithmetic", [BASE, A, B], weights, base=0, **shared))


def test_density_0_gives_the_base() -> None:
    for method in ("ties", "dare_linear", "dare_ties"):
        merged = merge(method, [BASE, A], [{}, {"weight": 0.6, "density": 0.0}], base=0)
        assert torch.equal(merged, BASE), method


@pytest.mark.parametrize("normalize", [True, False])
def test_linear_of_one_model_is_the_model(normalize: bool) -> None:
    merged = merge("linear", [A], [{"weight": 1.0}], normalize=normalize)
    assert torch.equal(merged, A)
    assert torch.equal(merge("linear", [A], [{"weight": 0.3}], normalize=True), A)


def test_linear_with_zero_weights_ignores_those_models_even_when_not_finite() -> None:
    broken = torch.full_like(A, float("nan"))
    assert torch.equal(merge("linear", [A, broken], [{"weight": 1.0}, {"weight": 0.0}]), A)


def test_negation_takes_the_task_away() -> None:
    merged = merge("task_arithmetic", [BASE, A], [{}, {"weight": -1.0}], base=0)
    torch.testing.assert_close(merged, BASE - (A - BASE), rtol=1e-6, atol=1e-6)
    forgotten = merge("task_arithmetic", [BASE, A], [{}, {"weight": 0.0}], base=0)
    assert torch.equal(forgotten, BASE)


def test_analogy_adds_a_difference_of_tasks() -> None:
    """c + (b - a), all relative to the base."""
    c = BASE + 0.2 * noise(5, 20, 30)
    weights = [{}, {"weight": -1.0}, {"weight": 1.0}, {"weight": 1.0}]
    merged = merge("task_arithmetic", [BASE, A, B, c], weights, base=0)
    torch.testing.assert_close(merged, c + B - A, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_passthrough_copies_bits(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, -0.0, 1.0, -1e-30, 3e38, float("inf"), -float("inf"), 0.1], dtype=torch.float64).to(dtype)
    merged = merge("passthrough", [x], [{}]).to(dtype)
    assert torch.equal(merged.view(torch.uint8), x.view(torch.uint8))
    assert merged.data_ptr() != x.data_ptr()


def test_passthrough_scales() -> None:
    assert torch.equal(merge("passthrough", [A], [{"scale": 2.0}]), 2 * A)
    assert torch.equal(merge("passthrough", [A], [{"scale": 0.0}]), torch.zeros_like(A))


@pytest.mark.parametrize(
    ("density", "kept"),
    [(0.0, ()), (0.01, (0,)), (0.34, (0, 3)), (0.5, (0, 1, 3)), (0.67, (0, 1, 3, 4)), (0.99, (0, 1, 2, 3, 4))],
)
def test_magnitude_ties_go_to_low_indices(density: float, kept: tuple[int, ...]) -> None:
    delta = torch.tensor([-5.0, 2.0, 0.0, -5.0, 2.0, 0.0])
    assert largest_mask(delta, density).nonzero().flatten().tolist() == list(kept)


def test_the_magnitude_mask_has_the_shape_of_the_tensor() -> None:
    mask = largest_mask(noise(1, 3, 4, 5), 0.25)
    assert mask.shape == (3, 4, 5)
    assert int(mask.sum()) == 15


def test_weights_without_a_sum_are_refused_with_the_tensor_named(in_llama: Path) -> None:
    sources = tuple(Source(name, parameters={"weight": Setting.constant(w)}) for name, w in (("a", 0.5), ("b", -0.5)))
    recipe = Recipe("linear", models=sources)
    message = (
        r"linear: tensor 'lm_head\.weight': with normalize: true the weights must not sum to 0, but are \[0\.5, -0\.5\]"
    )
    with pytest.raises(MergeError, match=message):
        next(materialize(recipe, ModelBank(recipe.references())))

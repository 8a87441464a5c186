"""The gradient in merge weights equals finite differences of the merged model, in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, write_models
from float64_loss import STEP, loss
from tiny_models import ALPHABET, write_model

from mergesmith.merge_ops import (
    LiveModel,
    ModelBank,
    NoWeightDerivativeError,
    Recipe,
    WeightGradient,
    parse_recipe,
    plan_merge,
)

DTYPES = "dtype: float64\nout_dtype: float64\n"
ARITHMETIC = """
merge_method: task_arithmetic
base_model: base
models:
  - {model: a, parameters: {weight: A}}
  - {model: b, parameters: {weight: B}}
"""
LINEAR = ARITHMETIC.replace("task_arithmetic", "linear").replace("base_model: base\n", "")


def masked(method: str, density: float, *, normalize: bool = False, rescale: bool = False, more: str = "") -> str:
    text = ARITHMETIC.replace("task_arithmetic", method)
    for weight in "AB":
        text = text.replace(f"weight: {weight}", f"weight: {weight}, density: {density}{more}")
    switches = f"normalize: {str(normalize).lower()}, rescale: {str(rescale).lower()}, lambda: 0.9"
    return f"{text}parameters: {{{switches}}}\n"


METHODS = {
    "task_arithmetic": f"{ARITHMETIC}parameters: {{lambda: 1.2, lines: 0.3}}\n",
    "task_arithmetic, normalized": f"{ARITHMETIC}parameters: {{normalize: true}}\n",
    "linear": f"{LINEAR}parameters: {{normalize: false}}\n",
    "linear, normalized": LINEAR,
    "ties": masked("ties", 0.5),
    "ties, normalized": masked("ties", 0.5, normalize=True),
    "dare_linear": masked("dare_linear", 0.5, rescale=True),
    "dare_linear, normalized": masked("dare_linear", 0.5, rescale=True, normalize=True),
    "dare_ties": masked("dare_ties", 0.5, rescale=True),
    "della": masked("della", 0.5, rescale=True, normalize=True, more=", epsilon: 0.1"),
    "della_linear": masked("della_linear", 0.5, rescale=True, more=", epsilon: 0.1"),
    "breadcrumbs": masked("breadcrumbs", 0.5, more=", gamma: 0.05"),
    "breadcrumbs_ties": masked("breadcrumbs_ties", 0.5, normalize=True, more=", gamma: 0.05"),
}


def at(text: str, first: float, second: float) -> Recipe:
    """The recipe with these weights of a and b."""
    return parse_recipe(
        text.replace("weight: A", f"weight: {first}").replace("weight: B", f"weight: {second}") + DTYPES
    )


def totals(live: LiveModel, recipe: Recipe) -> dict[str, float]:
    """The derivative in one weight for all tensors, by model."""
    live.load(recipe)
    plan = plan_merge(recipe, live.bank)
    with WeightGradient(live, plan) as gradient:
        loss(live.model).backward()
        slopes = gradient.take()
    found: dict[str, float] = {}
    for task in plan.tasks:
        for (model, _), slope in zip(task.inputs, slopes.get(task.name, ()), strict=False):
            found[model] = found.get(model, 0.0) + float(slope)
    return found


def differences(live: LiveModel, make: Callable[[float, float], Recipe], first: float, second: float) -> list[float]:
    found = []
    for i in range(2):
        values = []
        for step in (STEP, -STEP):
            live.load(make(first + step * (i == 0), second + step * (i == 1)))
            with torch.no_grad():
                values.append(float(loss(live.model)))
        found.append((values[0] - values[1]) / (2 * STEP))
    return found


def check(root: Path, text: str, first: float, second: float) -> None:
    live = LiveModel(ModelBank(at(text, first, second).references(), roots=[root]))
    slopes = totals(live, at(text, first, second))
    expected = differences(live, lambda a, b: at(text, a, b), first, second)
    np.testing.assert_allclose([slopes["a"], slopes["b"]], expected, rtol=2e-5, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_methods(method: str, in_llama: Path) -> None:
    check(in_llama, METHODS[method], 0.7, 0.45)


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str, tmp_path: Path) -> None:
    write_models(tmp_path, family)
    check(tmp_path, METHODS["ties"], 0.7, 0.45)


def test_a_vocabulary_of_its_own(tmp_path: Path) -> None:
    """Embeddings are rebuilt to the output's vocabulary before they are merged."""
    for seed, (name, tokens) in enumerate({"base": 0, "a": 3, "b": 7}.items()):
        write_model(tmp_path / name, seed=seed, base_seed=0 if seed else None, tokens=ALPHABET[tokens : tokens + 44])
    check(tmp_path, f"{ARITHMETIC}tokenizer_source: union\n", 0.7, 0.45)


def test_a_weight_of_zero_may_grow(in_llama: Path) -> None:
    recipe = at(METHODS["dare_ties"], 0.0, 0.45)
    live = LiveModel(ModelBank(recipe.references()))
    slope = totals(live, recipe)["a"]
    values = []
    for weight in (0.0, STEP):
        live.load(at(METHODS["dare_ties"], weight, 0.45))
        with torch.no_grad():
            values.append(float(loss(live.model)))
    assert slope == pytest.approx((values[1] - values[0]) / STEP, rel=1e-4)


def test_passes_add_up_and_nothing_stays_behind(in_llama: Path) -> None:
    recipe = at(METHODS["ties"], 0.7, 0.45)
    live = LiveModel(ModelBank(recipe.references()))
    live.load(recipe)
    before = {name: tensor.clone() for name, tensor in live.model.state_dict().items()}
    with WeightGradient(live, plan_merge(recipe, live.bank)) as gradient:
        for _ in range(2):
            loss(live.model).backward()
            assert all(parameter.grad is None for parameter in live.model.parameters())
        twice = gradient.take()
        loss(live.model).backward()
        once = gradient.take()
        assert not any(slopes.any() for slopes in gradient.take().values())
    assert once.keys() == before.keys()
    for name, slopes in once.items():
        np.testing.assert_allclose(twice[name], 2 * slopes, rtol=1e-12)
        assert slopes.shape == (3,)
    assert not any(parameter.requires_grad for parameter in live.model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in live.model.state_dict().items())


def test_experts_have_slopes_of_their_own(tmp_path: Path) -> None:
    """Fused in the live model, but tensors of their own in checkpoints, filters and merges."""
    write_models(tmp_path, "mixtral")
    text = ARITHMETIC.replace("weight: A", "weight: [{filter: experts.1.w1, value: A}, {value: 0.7}]")
    recipe = parse_recipe(text.replace("A}", "0.7}").replace("weight: B", "weight: 0.45") + DTYPES)
    live = LiveModel(ModelBank(recipe.references(), roots=[tmp_path]))
    live.load(recipe)
    plan = plan_merge(recipe, live.bank)
    with WeightGradient(live, plan) as gradient:
        loss(live.model).backward()
        slopes = gradient.take()
    experts = [task for task in plan.tasks if "experts.1.w1" in task.name]
    slope = sum(slopes[task.name][[model for model, _ in task.inputs].index("a")] for task in experts)
    values = []
    for step in (STEP, -STEP):
        live.load(parse_recipe(text.replace("A}", f"{0.7 + step}}}").replace("weight: B", "weight: 0.45") + DTYPES))
        with torch.no_grad():
            values.append(float(loss(live.model)))
    assert slope == pytest.approx((values[0] - values[1]) / (2 * STEP), rel=1e-4, abs=1e-8)
    assert slope != 0.0


@pytest.mark.parametrize("method", ["slerp", "nuslerp", "localize_and_stitch", "model_stock", "karcher"])
def test_methods_that_are_not_linear(method: str, in_llama: Path) -> None:
    text = {
        "slerp": "models: [{model: a}, {model: b}]\nbase_model: a\nparameters: {t: 0.5}",
        "nuslerp": "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 2}}]",
        "karcher": "models: [{model: a}, {model: b}]",
    }.get(method, "base_model: base\nmodels: [{model: a}, {model: b}]")
    recipe = parse_recipe(f"merge_method: {method}\n{text}\n")
    live = LiveModel(ModelBank(("base", "a", "b")))
    live.load(at(ARITHMETIC, 0.7, 0.45))
    with pytest.raises(NoWeightDerivativeError, match=f"^tensor '.*': {method}: .* not (linear in|weighted by)"):
        WeightGradient(live, plan_merge(recipe, live.bank))

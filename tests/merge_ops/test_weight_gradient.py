"""The gradient in merge weights equals finite differences of the merged model, in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, write_models
from tiny_models import write_family

from mergesmith.merge_ops import LiveModel, ModelBank, Recipe, parse_recipe, plan_merge
from mergesmith.merge_ops.live.weight_derivative import NoWeightDerivativeError
from mergesmith.merge_ops.live.weight_gradient import WeightGradient

TOKENS = torch.tensor([[1, 7, 4, 20, 33, 9, 2, 11], [5, 5, 40, 41, 3, 17, 8, 30]])
STEP = 1e-6
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
    return parse_recipe(text.replace("weight: A", f"weight: {first}").replace("weight: B", f"weight: {second}") + DTYPES)


def loss(model: torch.nn.Module) -> torch.Tensor:
    """Cross entropy, with what models compute in float32 whatever their dtype in float64 too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "float32", torch.float64)
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        logits = model(TOKENS, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())


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

"""Derivatives in knots, filters and constants of a search space equal finite differences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from float64_loss import STEP, loss

from mergesmith.merge_ops import LiveModel, ModelBank, Recipe, WeightGradient, plan_merge
from mergesmith.search_spaces import (
    METHOD,
    MergeIngredients,
    Params,
    SearchSpace,
    SpaceConfig,
    WeightJacobian,
    weight_dimensions,
)

SUBJECT = MergeIngredients("base", ("a", "b"), "float32")


def make_space(method: str, **settings: object) -> SearchSpace:
    return SearchSpace(SpaceConfig.model_validate({"methods": [method], **settings}), SUBJECT)


def point(space: SearchSpace, method: str) -> dict[str, float | str]:
    """A point whose values all differ."""
    units = {d.name: 0.3 + 0.04 * i for i, d in enumerate(space.dimensions(method))}
    return {METHOD: method} | {d.name: d.from_unit(units[d.name]) for d in space.dimensions(method)}  # type: ignore[union-attr]


def exact(recipe: Recipe) -> Recipe:
    return replace(recipe, dtype="float64", out_dtype="float64")


@pytest.mark.parametrize("method", ["task_arithmetic", "linear", "ties"])
@pytest.mark.parametrize(
    "settings", [{}, {"knots": 3}, {"knots": 2, "filters": ("mlp", "embed")}], ids=["constant", "knots", "filters"]
)
def test_finite_differences(method: str, settings: dict[str, object], in_llama: Path) -> None:
    space = make_space(method, **settings)
    params = point(space, method)
    live = LiveModel(ModelBank(("base", "a", "b")))
    recipe = exact(space.recipe(params))
    live.load(recipe)
    with WeightGradient(live, plan_merge(recipe, live.bank)) as gradient:
        loss(live.model).backward()
        slopes = WeightJacobian.of(space, params, live.bank).slopes(gradient.take())
    assert list(slopes) == [d.name for d in weight_dimensions(space, method)]
    for name in (next(iter(slopes)), next(reversed(slopes))):
        assert slopes[name] == pytest.approx(difference(space, params, name, live), rel=1e-4, abs=1e-7)


def difference(space: SearchSpace, params: Params, name: str, live: LiveModel) -> float:
    values = []
    for step in (STEP, -STEP):
        live.load(exact(space.recipe({**params, name: float(params[name]) + step})))
        with torch.no_grad():
            values.append(float(loss(live.model)))
    return (values[0] - values[1]) / (2 * STEP)


def test_chosen_parameters_only(in_llama: Path) -> None:
    space = make_space("ties", knots=2)
    params = point(space, "ties")
    bank = ModelBank(("base", "a", "b"))
    jacobian = WeightJacobian.of(space, params, bank, names=["ties.weight[b].1"])
    assert list(jacobian.entries) == ["ties.weight[b].1"]
    with pytest.raises(ValueError, match=r"ties.density\[a\].0 changes more than weights"):
        WeightJacobian.of(space, params, bank, names=["ties.density[a].0"])

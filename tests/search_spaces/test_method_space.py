"""Every point of every method's default space defines a merge: constraints hold by construction."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mergesmith.merge_ops import METHODS, MergeMethod, Recipe, parse_recipe
from mergesmith.merge_ops.bank.input_statistics import InputStatistics
from mergesmith.merge_ops.executors.reference import execute
from mergesmith.merge_ops.methods import Base, Parameter, ParameterValues
from mergesmith.search_spaces import METHOD, Choice, MergeIngredients, Params, SearchSpace, SpaceConfig

SUBJECT = MergeIngredients("./base", ("./a", "./b", "./c"), "float32")
POINTS = 50
# A layer in the middle, the last layer, a tensor outside the layers.
PLACES = (("model.layers.1.mlp.up_proj.weight", 1 / 3), ("model.layers.3.self_attn.q_proj.weight", 1.0), ("norm", None))
SEARCHED = [method for method in METHODS.values() if method.max_inputs != 1]


def points(space: SearchSpace, method: str) -> Iterator[Params]:
    rng = random.Random(0)
    for _ in range(POINTS):
        point: dict[str, Any] = {METHOD: method}
        for d in space.dimensions(method):
            point[d.name] = rng.choice(d.options) if isinstance(d, Choice) else d.from_unit(rng.random())
        yield point


def values(recipe: Recipe, method: MergeMethod, models: list[str], name: str, depth: float | None) -> ParameterValues:
    """Return the parameter values that planning gives for a recipe without slices."""
    base = models.index(recipe.base_model) if recipe.base_model and method.base is not Base.IGNORED else None
    by_model = {source.model: source.parameters for source in recipe.models}

    def value_of(parameter: Parameter, i: int | None) -> Any:
        levels = (recipe.parameters,) if i is None else (by_model.get(models[i], {}), recipe.parameters)
        settings = (level[parameter.name].at(name, depth or 0.0) for level in levels if parameter.name in level)
        return next((value for value in settings if value is not None), parameter.default)

    return method.values(len(models), value_of, base=base, depth=depth)


def tensors(models: list[str], shape: tuple[int, ...]) -> list[torch.Tensor]:
    def noise(seed: int) -> torch.Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    return [noise(0) + (0.1 * noise(1 + ord(model[-1])) if model != SUBJECT.base else 0.0) for model in models]


@pytest.mark.parametrize("detail", [{}, {"knots": 2, "filters": ["mlp"]}], ids=["plain", "knots and filters"])
@pytest.mark.parametrize("method", SEARCHED, ids=lambda method: method.name)
def test_every_point_merges(method: MergeMethod, detail: dict[str, Any]) -> None:
    space = SearchSpace(SpaceConfig.model_validate({"methods": [method.name], **detail}), SUBJECT)
    for point in points(space, method.name):
        recipe = space.recipe(point)
        assert parse_recipe(recipe.to_yaml()) == recipe  # legal by the reader's rules too
        models = [source.model for source in recipe.models]
        if recipe.base_model is not None and recipe.base_model not in models:
            models.append(recipe.base_model)
        for (name, depth), shape in zip(PLACES, ((6, 5), (2, 7), (4,)), strict=True):
            given, inputs = values(recipe, method, models, name, depth), tensors(models, shape)
            plan = method.plan(given, InputStatistics(lambda: inputs, given.base))  # noqa: B023
            merged = execute(plan, inputs, base=given.base, seed=0, name=name)
            assert bool(merged.isfinite().all()), (point, name)

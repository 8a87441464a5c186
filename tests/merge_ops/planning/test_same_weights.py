"""Recipes under different names that give the same weights are recognised, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import write_family

from mergesmith.merge_ops import ModelBank, parse_recipe, plan_merge, weights_key

UNIFORM = "merge_method: linear\nbase_model: base\nmodels:\n" + "".join(
    f"  - {{model: {name}, parameters: {{weight: {weight}}}}}\n"
    for name, weight in (("base", 0), ("a", 1), ("b", 1), ("c", 1))
)


def arithmetic(*weights: float, more: str = "", method: str = "task_arithmetic") -> str:
    models = "".join(
        f"  - {{model: {name}, parameters: {{weight: {weight!r}}}}}\n"
        for name, weight in zip("abc", weights, strict=True)
    )
    return f"merge_method: {method}\nbase_model: base\nmodels:\n{models}{more}"


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> ModelBank:
    folder = tmp_path_factory.mktemp("models")
    write_family(folder, "llama", layers=2)
    return ModelBank(("base", "a", "b", "c"), roots=(folder,))


def key(text: str, bank: ModelBank) -> str | None:
    return weights_key(plan_merge(parse_recipe(text, where=str(Path("recipe"))), bank))


@pytest.mark.parametrize(
    "other",
    [
        arithmetic(1 / 3, 1 / 3, 1 / 3),
        arithmetic(2 / 3, 2 / 3, 2 / 3, more="parameters: {lambda: 0.5}\n"),
        arithmetic(1.0, 1.0, 1.0, more="parameters: {normalize: true}\n"),
        arithmetic(1 / 3, 1 / 3, 1 / 3, method="breadcrumbs", more="parameters: {density: 1.0, gamma: 0.0}\n"),
    ],
)
def test_uniform_under_other_names(other: str, bank: ModelBank) -> None:
    assert key(UNIFORM, bank) == key(other, bank) is not None


@pytest.mark.parametrize(
    "other",
    [
        arithmetic(1 / 3, 1 / 3, 0.3333),
        arithmetic(1 / 3, 1 / 3, 1 / 3, more="dtype: bfloat16\n"),
        arithmetic(1 / 3, 1 / 3, 1 / 3, method="ties", more="parameters: {density: 0.5}\n"),
    ],
)
def test_others_are_not_the_uniform_average(other: str, bank: ModelBank) -> None:
    assert key(UNIFORM, bank) != key(other, bank)


def test_a_rule_for_some_tensors_makes_another_model(bank: ModelBank) -> None:
    rules = "parameters: {lambda: [{filter: mlp, value: 0.9}, {value: 1.0}]}\n"
    assert key(arithmetic(1 / 3, 1 / 3, 1 / 3, more=rules), bank) not in (None, key(UNIFORM, bank))


def test_masks_and_statistics_have_no_key(bank: ModelBank) -> None:
    assert key(arithmetic(0.5, 0.5, 0.5, method="ties", more="parameters: {density: 0.5}\n"), bank) is None
    assert key(arithmetic(0.5, 0.5, 0.5, method="dare_linear", more="parameters: {density: 0.5}\n"), bank) is None

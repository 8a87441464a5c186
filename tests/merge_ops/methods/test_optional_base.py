"""Methods that may have a base: what recipes may say, and that task vectors are merged where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mergesmith.errors import UserError
from mergesmith.merge_ops import ModelBank, Recipe, materialize, parse_recipe

NUSLERP = "merge_method: nuslerp\nparameters: {weight: 0.5}\n"
SLICED = "slices: [{sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [0, 2]}]}]\n"


def merged(recipe: Recipe) -> dict[str, torch.Tensor]:
    return dict(materialize(recipe, ModelBank(recipe.references())))


def test_with_a_base_task_vectors_are_merged(in_llama: Path) -> None:
    alone = merged(parse_recipe(NUSLERP + "models: [{model: a}, {model: b}]"))
    based = merged(parse_recipe(NUSLERP + "base_model: base\nmodels: [{model: a}, {model: b}]"))
    listed = merged(parse_recipe(NUSLERP + "base_model: base\nmodels: [{model: base}, {model: a}, {model: b}]"))
    for name in based:  # the base stands elsewhere in the sum
        torch.testing.assert_close(based[name], listed[name], rtol=1e-6, atol=1e-6)
    assert any(float((based[name] - alone[name]).abs().max()) > 1e-4 for name in based)


@pytest.mark.parametrize("models", ["[{model: a}]", "[{model: a}, {model: b}, {model: c}]"])
@pytest.mark.parametrize("base", ["", "base_model: base\n"])
def test_the_base_is_not_counted(models: str, base: str) -> None:
    law = r"nuslerp takes exactly 2 models \(not counting the base model\), but [13] are given"
    with pytest.raises(UserError, match=law):
        parse_recipe(f"{NUSLERP}{base}models: {models}")


def test_a_model_that_is_the_base_is_no_input_of_its_own() -> None:
    with pytest.raises(UserError, match="but 1 are given"):
        parse_recipe(NUSLERP + "base_model: a\nmodels: [{model: a}, {model: b}]")


def test_in_slices_the_base_must_be_listed() -> None:
    assert parse_recipe(NUSLERP + SLICED).base_model is None
    with pytest.raises(UserError, match="must be one of the slice's sources"):
        parse_recipe(NUSLERP + "base_model: base\n" + SLICED)


def test_weights_are_needed_for_all_but_the_base() -> None:
    parse_recipe(
        "merge_method: multislerp\nbase_model: base\n"
        "models: [{model: base}, {model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 2}}]"
    )
    with pytest.raises(UserError, match=r"models\[1\]\.parameters\.weight: is missing"):
        parse_recipe("merge_method: multislerp\nmodels: [{model: a, parameters: {weight: 1}}, {model: b}]")


def test_karcher_refuses_a_base_that_would_become_an_input() -> None:
    with pytest.raises(UserError, match="would silently become an additional input"):
        parse_recipe("merge_method: karcher\nbase_model: base\nmodels: [{model: a}, {model: b}]")


@pytest.mark.parametrize(
    ("value", "law"),
    [("2.5", "must be a whole number"), ("[1, 5]", "cannot be a gradient"), ("-1", r"must lie in \[0, inf\]")],
)
def test_whole_numbers(value: str, law: str) -> None:
    text = "merge_method: karcher\nmodels: [{model: a}, {model: b}]\nparameters: {max_iter: "
    assert parse_recipe(text + "7}").parameters["max_iter"].at("x", 0.0) == 7
    with pytest.raises(UserError, match=law):
        parse_recipe(text + value + "}")

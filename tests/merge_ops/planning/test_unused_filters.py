"""Filters of a recipe that give no tensor its value do not stop a merge, but are named."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from tiny_models import write_model

from mergesmith.merge_ops import ModelBank, RecipeWarning, materialize, parse_recipe, plan_merge

RECIPE = """
merge_method: linear
models:
  - {model: a, parameters: {weight: RULES}}
  - {model: b, parameters: {weight: 1.0}}
dtype: float32
"""


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_model("a", layers=2, seed=1)
    write_model("b", layers=2, seed=2)
    write_model("tied", layers=2, seed=3, tie_word_embeddings=True)


def warned(text: str) -> list[str]:
    recipe = parse_recipe(text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bank = ModelBank(recipe.references())
        plan_merge(recipe, bank)
        plan_merge(recipe, bank)  # warns once
    return [str(w.message) for w in caught if issubclass(w.category, RecipeWarning)]


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        (
            "layers.0-5",
            ("'layers.0-5' is part of no tensor name", "plain text, without ranges", "have the parts layers;"),
        ),
        (
            "self_atn",
            ("'self_atn' is part of no tensor name", "self_attn", "one of them is 'model.layers.0.self_attn."),
        ),
        ("*mlp*", ("'*mlp*' is part of no tensor name", "mlp")),
        ("block_sparse_moe", ("'block_sparse_moe' is part of no tensor name", "self_attn", "down_proj")),
    ],
)
def test_a_filter_that_matches_no_tensor_is_named_with_names_like_it(pattern: str, parts: tuple[str, ...]) -> None:
    (message,) = warned(RECIPE.replace("RULES", f"[{{filter: '{pattern}', value: 0.9}}, {{value: 0.5}}]"))
    assert message.startswith(f"recipe: weight: filter '{pattern}' is part of no tensor name, so it has no effect")
    for part in parts:
        assert part in message


def test_the_merge_is_that_of_the_other_rules() -> None:
    unused = RECIPE.replace("RULES", "[{filter: layers.0-5, value: 0.9}, {value: 0.5}]")
    plain = parse_recipe(RECIPE.replace("RULES", "0.5"))
    bank = ModelBank(plain.references())
    with pytest.warns(RecipeWarning, match=r"layers\.0-5"):
        merged = dict(materialize(parse_recipe(unused), bank))
    assert all(torch.equal(merged[name], tensor) for name, tensor in materialize(plain, bank))


@pytest.mark.parametrize(
    "rules",
    [
        "[{value: 0.5}, {filter: mlp, value: 0.9}]",
        "[{filter: model, value: 0.5}, {filter: mlp, value: 0.9}, {value: 1}]",
    ],
)
def test_a_filter_behind_others_that_match_the_same_tensors_is_named(rules: str) -> None:
    (message,) = warned(RECIPE.replace("RULES", rules))
    assert message.startswith("recipe: weight: filter 'mlp' has no effect: other rules, earlier in the list")


def test_a_filter_below_a_nearer_level_is_named() -> None:
    text = RECIPE.replace("RULES", "0.5") + "parameters: {weight: [{filter: mlp, value: 0.3}, {value: 1}]}\n"
    (message,) = warned(text)
    assert "filter 'mlp' has no effect: other rules" in message


def test_a_tied_head_is_named_with_its_tie() -> None:
    text = RECIPE.replace("RULES", "[{filter: lm_head, value: 0.9}, {value: 0.5}]").replace("a,", "tied,", 1)
    text = text.replace("model: b", "model: tied2")
    write_model("tied2", layers=2, seed=4, tie_word_embeddings=True)
    (message,) = warned(text)
    assert message == (
        "recipe: weight: filter 'lm_head' has no effect: lm_head.weight is tied to model.embed_tokens.weight"
    )


def test_filters_count_in_the_slices_that_they_belong_to() -> None:
    text = """
merge_method: linear
slices:
  - sources:
    - {model: a, layer_range: [0, 1], parameters: {weight: [{filter: layers.0., value: 0.2}, {value: 1}]}}
    - {model: b, layer_range: [0, 1], parameters: {weight: 1}}
  - sources:
    - {model: a, layer_range: [1, 2], parameters: {weight: [{filter: layers.1., value: 0.2}, {value: 1}]}}
    - {model: b, layer_range: [1, 2], parameters: {weight: 1}}
dtype: float32
"""
    assert warned(text) == []
    (message,) = warned(text.replace("layers.1.", "layers.9."))
    assert "'layers.9.' is part of no tensor name" in message


def test_filters_that_give_a_value_are_not_named() -> None:
    rules = "[{filter: self_attn, value: 0.9}, {filter: lm_head, value: 0.1}, {value: 0.5}]"
    assert warned(RECIPE.replace("RULES", rules)) == []

"""Whole recipes against mergekit's own output: YAML, precedence, filters, gradients, slices, families."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import RecipeCase, recipe_cases

from mergesmith.merge_ops import ModelBank, Recipe, RecipeWarning, materialize, parse_recipe
from mergesmith.merge_ops.vocabulary.output_vocabulary import output_vocabulary


@pytest.mark.parametrize("case", recipe_cases(), ids=lambda case: case.name)
@pytest.mark.filterwarnings("ignore::mergesmith.merge_ops.recipes.reader.RecipeWarning")
@pytest.mark.filterwarnings("ignore::mergesmith.merge_ops.vocabulary.output_vocabulary.VocabularyWarning")
def test_equals_mergekit(case: RecipeCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case.write_models(tmp_path)
    monkeypatch.chdir(tmp_path)
    recipe = parse_recipe(case.text())
    bank = ModelBank(recipe.references())
    ours = dict(materialize(recipe, bank))
    if case.vocabulary is not None:
        ours = by_token(ours, recipe, bank, case.vocabulary)
    theirs = case.expected()
    assert set(ours) == set(theirs)
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape, name
        if case.exact:
            assert ours[name].dtype == expected.dtype, name
        half = expected.dtype == torch.bfloat16
        tolerance = 2e-6 if case.exact and not half else 2e-2
        scale = float(expected.float().abs().max())
        assert float((ours[name].float() - expected.float()).abs().max()) <= tolerance * max(scale, 1e-12), name


def by_token(
    tensors: dict[str, torch.Tensor], recipe: Recipe, bank: ModelBank, stored: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    """Our tensors with rows in the stored order; the ids that mergekit does not leave to chance must be equal."""
    vocabulary = output_vocabulary(recipe, bank)
    assert vocabulary is not None
    ids = dict(zip(vocabulary.tokens, vocabulary.ids.tolist(), strict=True))
    assert sorted(ids) == stored["tokens"]
    assert vocabulary.size == stored["size"]
    assert {token: ids[token] for token in stored["ids"]} == stored["ids"]
    rest = sorted(set(range(vocabulary.size)) - set(ids.values()))
    order = [*(ids[token] for token in stored["tokens"]), *rest]
    rebuilt = ("model.embed_tokens.weight", "lm_head.weight")
    return {name: tensor[order] if name in rebuilt else tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("case", recipe_cases(), ids=lambda case: case.name)
@pytest.mark.filterwarnings("ignore::mergesmith.merge_ops.recipes.reader.RecipeWarning")
def test_written_recipe_is_the_same_recipe(case: RecipeCase) -> None:
    recipe = parse_recipe(case.text())
    again = parse_recipe(recipe.to_yaml())
    assert again == recipe
    assert again.digest == recipe.digest


def test_keys_without_effect_are_told() -> None:
    case = next(case for case in recipe_cases() if "int8_mask" in case.text())
    with pytest.warns(RecipeWarning, match="int8_mask: has no effect"):
        parse_recipe(case.text())

"""Merges of models of which some tie the head: the output has mergekit's tensors and a config.json that fits them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import write_model
from transformers import AutoModelForCausalLM

from mergesmith.merge_ops import LiveModel, ModelBank, Recipe, parse_recipe, write_merge
from mergesmith.merge_ops.planning.tied_heads import TiedHeadWarning
from mergesmith.merge_ops.recipes.reader import RecipeWarning

HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"
TEXTS = {
    "linear": """
merge_method: linear
models:
  - {model: FIRST, parameters: {weight: 0.5}}
  - {model: SECOND, parameters: {weight: [{filter: lm_head, value: 1.5}, {value: 0.5}]}}
parameters: {normalize: false}
dtype: float32
""",
    "task arithmetic": """
merge_method: task_arithmetic
base_model: FIRST
models: [{model: SECOND, parameters: {weight: 1.5}}]
dtype: float32
""",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models `tied` and `untied`, and `copied`, whose untied head equals its embeddings."""
    monkeypatch.chdir(tmp_path)
    write_model("tied", layers=2, seed=1, tie_word_embeddings=True)
    write_model("untied", layers=2, seed=2)
    write_model("copied", layers=2, seed=3)
    path = tmp_path / "copied" / "model.safetensors"
    tensors = load_file(path)
    tensors[HEAD] = tensors[EMBEDDINGS].clone()
    save_file(tensors, path, metadata={"format": "pt"})
    return tmp_path


def recipe_of(text: str, first: str, second: str) -> Recipe:
    return parse_recipe(text.replace("FIRST", first).replace("SECOND", second))


def written(recipe: Recipe, folder: Path) -> dict[str, torch.Tensor]:
    write_merge(recipe, ModelBank(recipe.references()), folder / "out", write_card=False)
    return load_file(folder / "out" / "model.safetensors")


def is_tied(folder: Path) -> bool:
    return json.loads((folder / "out" / "config.json").read_text())["tie_word_embeddings"]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize(("first", "second"), [("tied", "untied"), ("untied", "tied")])
def test_the_output_has_an_untied_head(folder: Path, text: str, first: str, second: str) -> None:
    recipe = recipe_of(text, first, second)
    with pytest.warns(TiedHeadWarning, match=r"lm_head\.weight.* untied head"):
        out = written(recipe, folder)
    heads = {
        "tied": load_file("tied/model.safetensors")[EMBEDDINGS],
        "untied": load_file("untied/model.safetensors")[HEAD],
    }
    own, other = heads[first], heads[second]
    expected = 0.5 * own + 1.5 * other if recipe.merge_method == "linear" else own + 1.5 * (other - own)
    torch.testing.assert_close(out[HEAD], expected)
    assert not is_tied(folder)
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder / "out")
    assert torch.equal(loaded.get_output_embeddings().weight, out[HEAD])


@pytest.mark.filterwarnings("ignore::mergesmith.merge_ops.planning.tied_heads.TiedHeadWarning")
@pytest.mark.parametrize(("first", "second"), [("tied", "untied"), ("untied", "tied")])
def test_the_live_model_has_the_same_head(folder: Path, first: str, second: str) -> None:
    recipe = recipe_of(TEXTS["linear"], first, second)
    live, out = LiveModel(ModelBank(recipe.references())), written(recipe, folder)
    for between in (recipe, parse_recipe("merge_method: passthrough\nmodels: [{model: tied}]"), recipe):
        live.load(between)
    state = live.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in out.items())


def test_a_head_that_equals_the_embeddings_is_left_out_beside_a_tied_donor(folder: Path) -> None:
    with (
        pytest.warns(TiedHeadWarning, match=r"lm_head.weight of 'copied' equals its embeddings and is left out"),
        pytest.warns(RecipeWarning, match=r"filter 'lm_head' has no effect: lm_head.weight is tied to model.embed"),
    ):
        out = written(recipe_of(TEXTS["linear"], "tied", "copied"), folder)
    assert HEAD not in out
    assert is_tied(folder)


def test_slices_of_tied_and_untied_models(folder: Path) -> None:
    text = """
merge_method: passthrough
slices:
  - sources: [{model: FIRST, layer_range: [0, 2]}]
  - sources: [{model: SECOND, layer_range: [1, 2]}]
"""
    with pytest.warns(TiedHeadWarning):
        out = written(recipe_of(text, "tied", "untied"), folder)
    assert torch.equal(out[HEAD], load_file("untied/model.safetensors")[HEAD])
    with pytest.warns(TiedHeadWarning):
        (folder / "out").rename(folder / "before")
        out = written(recipe_of(text, "untied", "tied"), folder)
    assert torch.equal(out[HEAD], load_file("tied/model.safetensors")[EMBEDDINGS])
    assert not is_tied(folder)


@pytest.mark.filterwarnings("ignore::mergesmith.merge_ops.planning.tied_heads.TiedHeadWarning")
def test_vocabularies_are_joined_for_both_uses(folder: Path) -> None:
    write_model("untied", layers=2, seed=2, vocab=50)
    text = TEXTS["linear"] + "tokenizer_source: union\n"
    out = written(recipe_of(text, "tied", "untied"), folder)
    assert out[HEAD].shape == out[EMBEDDINGS].shape == (50, 32)
    AutoModelForCausalLM.from_pretrained(folder / "out")

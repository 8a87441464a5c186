"""Keys in the wrong place, old spellings and files of other kinds: the message says where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Command

from mergesmith.merge_ops import parse_recipe

W = "parameters: {weight: 0.5}"
TWO = f"models: [{{model: a, {W}}}, {{model: b, {W}}}]"
RECIPES = {
    "a parameter at the top": (
        f"{{{TWO}, base_model: c, merge_method: ties, density: 0.5}}",
        "density: 'density' is a parameter: it belongs under parameters:",
    ),
    "a parameter beside the model": (
        "{models: [{model: a, weight: 0.5}, {model: b, weight: 0.5}], merge_method: linear}",
        "models[0].weight: 'weight' is a parameter: it belongs under parameters:",
    ),
    "dtype under parameters": (
        f"{{{TWO}, merge_method: linear, parameters: {{dtype: bfloat16}}}}",
        "parameters.dtype: 'dtype' belongs at the top level of the recipe",
    ),
    "normalize at the top": (
        f"{{{TWO}, merge_method: linear, normalize: false}}",
        "'normalize' is a parameter",
    ),
    "revision": (
        f"{{models: [{{model: a, revision: main, {W}}}, {{model: b, {W}}}], merge_method: linear}}",
        "models[0].revision: 'revision' is part of the model's name: write model@revision",
    ),
    "embed_slerp": (
        "{models: [{model: a}, {model: b}], base_model: a, merge_method: slerp, parameters: {t: 1, embed_slerp: true}}",
        "parameters.embed_slerp: 'embed_slerp' is an old key without effect",
    ),
    "layer_range at the top": (
        f"{{{TWO}, merge_method: linear, layer_range: [0, 2]}}",
        "'layer_range' belongs to a source, under slices:",
    ),
    "no base": (
        f"{{{TWO}, merge_method: ties}}",
        "base_model: is missing; ties needs one, which may be one of the models",
    ),
    "mergekit-moe": (
        "{base_model: a, gate_mode: hidden, dtype: bfloat16, experts: [{source_model: b, positive_prompts: [x]}]}",
        "this is a file for mergekit-moe",
    ),
    "mergekit-evolve": (
        "{genome: {models: [a, b]}, tasks: [{name: gsm8k, weight: 1.0}]}",
        "a file for mergekit-evolve",
    ),
    "a search.yaml": (
        "{base_model: a, models: [a, b], tasks: [arc_easy], output: o}",
        "this is a search.yaml, not a recipe; use `mergesmith search`",
    ),
}
SEARCHES = {
    "mergekit-evolve": (
        "{genome: {models: [a, b], merge_method: dare_ties, base_model: a}, tasks: [{name: gsm8k, weight: 1.0}]}",
        "this is a file for mergekit-evolve; `mergesmith import",
    ),
    "mergekit-moe": ("{base_model: a, gate_mode: hidden, experts: []}", "this is a file for mergekit-moe"),
    "a recipe": (f"{{{TWO}, merge_method: linear}}", "this is a recipe, not a search.yaml; use `mergesmith merge`"),
    "a key of a section at the top": (
        "{base_model: a, models: [b], tasks: [t], trials: 3}",
        "trials: 'trials' belongs under search:",
    ),
    "a top key in a section": (
        "{base_model: a, models: [b], tasks: [t], search: {output: x}}",
        "search.output: 'output' belongs at the top level",
    ),
    "no base": ("{models: [a, b], tasks: [t]}", "base_model: is missing; without a common base, name one of"),
    "the base twice": (
        "{base_model: a, models: [a, b], tasks: [t]}",
        "'a' is listed twice in base_model and models; without",
    ),
}


@pytest.mark.parametrize(("text", "message"), RECIPES.values(), ids=RECIPES)
def test_recipes(tmp_path: Path, command: Command, text: str, message: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    outcome = command("merge", tmp_path / "r.yaml", tmp_path / "out")
    assert outcome.code == 2
    assert message in outcome.err
    assert "Did you mean" not in outcome.err


@pytest.mark.parametrize("name", ["plan", "search"])
@pytest.mark.parametrize(("text", "message"), SEARCHES.values(), ids=SEARCHES)
def test_searches(tmp_path: Path, command: Command, text: str, message: str, name: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    outcome = command(name, tmp_path / "s.yaml")
    assert outcome.code == 2
    assert message in outcome.err
    assert "Did you mean" not in outcome.err


@pytest.mark.parametrize("key", ["tokenizer_source: 'model:a'", "tokenizer: {source: 'model:a'}"])
def test_the_old_form_of_tokenizer_source_is_read(key: str) -> None:
    recipe = parse_recipe(f"{{{TWO}, merge_method: linear, {key}}}")
    assert recipe.vocabulary is not None
    assert recipe.vocabulary.source == "a"

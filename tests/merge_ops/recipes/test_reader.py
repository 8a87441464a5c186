"""What is wrong with a recipe is told with its place, the law, the value and the nearest known name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mergesmith.errors import UserError
from mergesmith.merge_ops import Recipe, RecipeWarning, parse_recipe, read_recipe

LINEAR = "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n"
LINEAR_SLICE = "merge_method: linear\nparameters: {weight: 1}\nslices:\n- sources: "
TIES = "merge_method: ties\nbase_model: base\nmodels: [{model: a}]\nparameters: {weight: 1}\n"


def refused(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_recipe(text, where="r.yaml")
    message = str(caught.value)
    assert message.startswith("r.yaml: ")
    return message


def with_(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


FAULTS = {
    "unknown key": (LINEAR + "outdtype: float32", "outdtype: unknown key 'outdtype'. Did you mean 'out_dtype'?"),
    "unknown key of a model": (
        with_(LINEAR, "model: a,", "model: a, paramters: {},"),
        "models[0].paramters: unknown key 'paramters'. Did you mean 'parameters'?",
    ),
    "unknown method": (
        with_(TIES, "ties", "tiess"),
        "merge_method: unknown merge method 'tiess'. Did you mean 'ties'?",
    ),
    "a method that is a list": (with_(TIES, "ties", "[ties]"), "merge_method: unknown merge method"),
    "no method": (with_(LINEAR, "merge_method: linear\n", ""), "merge_method: is missing"),
    "unknown parameter": (
        with_(LINEAR, "weight: 1", "wieght: 1, weight: 1"),
        "models[0].parameters.wieght: unknown parameter 'wieght'. Did you mean 'weight'?",
    ),
    "unknown dtype": (LINEAR + "dtype: bfloat61", "dtype: unknown dtype 'bfloat61'. Did you mean 'bfloat16'?"),
    "density out of range": (
        with_(TIES, "weight: 1", "weight: 1, density: 1.5"),
        "parameters.density: density must lie in [0, 1], but is 1.5",
    ),
    "density out of range in a gradient": (
        with_(TIES, "weight: 1", "weight: 1, density: [{filter: mlp, value: [0.5, -1]}]"),
        "parameters.density[0].value[1]: density must lie in [0, 1], but is -1",
    ),
    "empty gradient": (with_(TIES, "weight: 1", "weight: []"), "parameters.weight: the list of values is empty"),
    "word for a number": (
        with_(TIES, "weight: 1", "weight: heavy"),
        "parameters.weight: weight must be a finite number, but is 'heavy'",
    ),
    "not a number": (with_(TIES, "weight: 1", "weight: .nan"), "parameters.weight: weight must be a finite number"),
    "infinite": (with_(TIES, "weight: 1", "weight: .inf"), "parameters.weight: weight must be a finite number"),
    "number for a switch": (
        with_(TIES, "weight: 1", "weight: 1, normalize: 2"),
        "parameters.normalize: normalize must be true or false, but is 2",
    ),
    "gradient of a switch": (
        with_(TIES, "weight: 1", "weight: 1, normalize: [true, false]"),
        "parameters.normalize: normalize is a switch",
    ),
    "rule without value": (
        with_(TIES, "weight: 1", "weight: [{filter: mlp}]"),
        "parameters.weight[0]: must be a mapping with value",
    ),
    "filter that is no text": (
        with_(TIES, "weight: 1", "weight: [{filter: 3, value: 1}]"),
        "parameters.weight[0].filter: must be part of a tensor name, but is 3",
    ),
    "parameters that are a list": (with_(TIES, "{weight: 1}", "[1]"), "parameters: must be a mapping"),
    "base missing": (with_(TIES, "base_model: base\n", ""), "base_model: is missing; ties needs one"),
    "too few models": (
        "merge_method: slerp\nbase_model: a\nmodels: [{model: a}]\nparameters: {t: 0.5}",
        "models: slerp takes exactly 2 models (including the base model), but 1 are given",
    ),
    "too many models": (
        "merge_method: slerp\nbase_model: c\nmodels: [{model: a}, {model: b}]\nparameters: {t: 0.5}",
        "models: slerp takes exactly 2 models (including the base model), but 3 are given",
    ),
    "required parameter missing": (
        with_(TIES, "parameters: {weight: 1}", ""),
        "models[0].parameters.weight: is missing",
    ),
    "required shared parameter missing": (
        "merge_method: slerp\nbase_model: a\nmodels: [{model: b}]",
        "parameters.t: is missing; slerp needs it",
    ),
    "duplicate key": (TIES + "base_model: other\n", "not valid YAML: duplicate key 'base_model'"),
    "models and slices": (
        LINEAR + "slices: [{sources: [{model: a, layer_range: [0, 1], parameters: {weight: 1}}]}]",
        "exactly one of the keys models, slices and modules",
    ),
    "neither models nor slices": ("merge_method: linear", "exactly one of the keys models, slices and modules"),
    "a base that would become an input": (
        LINEAR + "base_model: base",
        "base_model: linear has no base: 'base' would silently become an additional input",
    ),
    "slices without the base": (
        TIES.replace("models: [{model: a}]", "slices: [{sources: [{model: a, layer_range: [0, 1]}]}]"),
        "slices[0]: the base model 'base' must be one of the slice's sources",
    ),
    "unequal layer counts": (
        f"{LINEAR_SLICE}[{{model: a, layer_range: [0, 2]}}, {{model: b, layer_range: [0, 3]}}]",
        "slices[0]: its sources must cover equally many layers, but cover [2, 3]",
    ),
    "backward layers": (
        "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [2, 1]}]}]",
        "slices[0].sources[0].layer_range: must satisfy 0 <= start <= stop, but is [2, 1]",
    ),
    "no layers": (
        "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [2, 2]}]}]",
        "slices: take no layers; the merged model needs at least one",
    ),
    "no layers in one of the sources": (
        f"{LINEAR_SLICE}[{{model: a, layer_range: [2, 2]}}, {{model: b, layer_range: [0, 3]}}]",
        "slices[0]: its sources must cover equally many layers, but cover [0, 3]",
    ),
    "layers that are no numbers": (
        "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [0, x]}]}]",
        "slices[0].sources[0].layer_range: must be [start, stop), two whole numbers, but is [0, 'x']",
    ),
    "layers missing": (
        "merge_method: passthrough\nslices: [{sources: [{model: a}]}]",
        "slices[0].sources[0].layer_range: is missing",
    ),
    "no sources": (
        "merge_method: passthrough\nslices: [{sources: []}]",
        "slices[0].sources: must be a list with at least",
    ),
    "model listed twice": (
        "merge_method: linear\nmodels: [{model: a}, {model: a}]\nparameters: {weight: 1}",
        "models: 'a' is listed twice",
    ),
    "no models": ("merge_method: linear\nmodels: []", "models: must be a list with at least one entry"),
    "model that is text": ("merge_method: passthrough\nmodels: [a]", "models[0]: must be a mapping, but is a str"),
    "model without name": ("merge_method: passthrough\nmodels: [{model: ''}]", "models[0].model: is missing"),
    "model that is a mapping": (
        "merge_method: passthrough\nmodels: [{model: {path: a}}]",
        "models[0].model: unknown key 'path'. Known: lora, model.",
    ),
    "another architecture": (
        "merge_method: passthrough\nmodels: [{model: {model: a, override_architecture: b}}]",
        "models[0].model: override_architecture is not supported",
    ),
    "revision that is a number": (
        "merge_method: passthrough\nmodels: [{model: {model: {path: a/b, revision: 1.0}}}]",
        "models[0].model: model.revision must be text, but is 1.0; put it in quotes",
    ),
    "no parts": (
        "merge_method: linear\nmodules: {}",
        "modules: must be a mapping from a part of the model to its models, but is empty",
    ),
    "template of no such name": (
        LINEAR + "chat_template: chatlm",
        "chat_template: unknown chat template 'chatlm'. Did you mean 'chatml'?",
    ),
    "seed that is no number": (LINEAR + "mergesmith: {seed: x}", "mergesmith.seed: must be a whole number, but is 'x'"),
    "block that is a list": (LINEAR + "mergesmith: [1]", "mergesmith: must be a mapping, but is a list"),
    "not YAML": ("merge_method: [", "not valid YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "exactly one document, the output, must have no name, but 2 have none"),
    "an object of Python": ("!!python/object:os.system {}", "not valid YAML"),
    "a list": ("- a\n- b\n", "a recipe is a mapping with the key merge_method, but this is a list"),
    "empty": ("", "a recipe is a mapping with the key merge_method, but this is empty"),
}


@pytest.mark.parametrize(("text", "message"), FAULTS.values(), ids=FAULTS)
def test_faults(text: str, message: str) -> None:
    assert message in refused(text)


def test_all_faults_are_told_together() -> None:
    message = refused(
        """
        merge_method: ties
        models:
          - {model: a, parameters: {density: 2, wieght: 1}}
          - {model: b, parameters: {weight: x}}
        parameters: {normalize: maybe}
        dtype: int3
        colour: red
        """
    )
    assert message.splitlines()[0] == "r.yaml: 8 faults"
    for place in (
        *("models[0].parameters.density", "models[0].parameters.wieght", "models[1].parameters.weight"),
        *("parameters.normalize", "dtype", "colour", "base_model", "models[0].parameters.weight"),
    ):
        assert re.search(rf"^  - {re.escape(place)}: ", message, re.MULTILINE), place


def test_an_unknown_method_hides_no_other_fault() -> None:
    message = refused("merge_method: tise\nmodels: [{model: a}]\ndtype: x\nmergesmith: {seed: y}\nextra: 1")
    assert message.startswith("r.yaml: 4 faults")


def test_a_fault_is_told_once() -> None:
    text = (
        "merge_method: ties\nslices:\n"
        + "  - sources: [{model: a, layer_range: [0, 1]}]\n" * 3
        + "parameters: {weight: 1}"
    )
    assert refused(text).count("base_model: is missing") == 1


def test_slices_of_no_layers() -> None:
    """The first and the last give tensors outside the layers; others give nothing."""

    def text(*ranges: str) -> str:
        slices = "".join(f"  - sources: [{{model: a, layer_range: {each}}}]\n" for each in ranges)
        return f"merge_method: passthrough\nslices:\n{slices}"

    recipe = parse_recipe(text("[0, 0]", "[0, 2]", "[2, 2]"))
    assert [part.sources[0].layer_range for part in recipe.slices] == [(0, 0), (0, 2), (2, 2)]
    assert parse_recipe(recipe.to_yaml()) == recipe
    with pytest.warns(RecipeWarning, match=r"slices\[1\]: takes no layers and has no effect"):
        parse_recipe(text("[0, 2]", "[1, 1]", "[2, 3]"))


def test_lenient_turns_unknown_keys_into_warnings() -> None:
    text = with_(LINEAR, "weight: 1", "wieght: 1, weight: 0.5") + "colour: red\n"
    with pytest.warns(RecipeWarning) as caught:
        recipe = parse_recipe(text, lenient=True)
    assert sorted(str(w.message).split(":")[1].strip() for w in caught) == ["colour", "models[0].parameters.wieght"]
    assert recipe == parse_recipe(with_(LINEAR, "weight: 1", "weight: 0.5"))


def test_lenient_forgives_nothing_else() -> None:
    with pytest.raises(UserError, match=r"density must lie in \[0, 1\]"):
        parse_recipe(with_(TIES, "weight: 1", "weight: 1, density: 1.5"), lenient=True)


@pytest.mark.parametrize("kind", ["missing", "folder", "not text"])
def test_files_that_cannot_be_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path if kind == "folder" else tmp_path / "recipe.yaml"
    if kind == "not text":
        path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="cannot be read") as caught:
        read_recipe(path)
    assert str(caught.value).startswith(str(path))


def test_a_recipe_says_no_more_than_it_was_given() -> None:
    assert parse_recipe(LINEAR) == Recipe("linear", models=parse_recipe(LINEAR).models)

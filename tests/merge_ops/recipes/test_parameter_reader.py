"""Every form in which mergekit's YAML gives a value, and what a recipe says of a tensor."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from checkout import ROOT

from mergesmith.merge_ops import (
    Recipe,
    RecipeWarning,
    Rule,
    Setting,
    Source,
    parse_recipe,
    read_recipe,
    recipe_from_document,
)


def slerp(t: str) -> Setting:
    """The setting that a piece of YAML gives for slerp's t."""
    text = f"merge_method: slerp\nbase_model: base\nmodels: [{{model: base}}, {{model: a}}]\nparameters: {{t: {t}}}\n"
    return parse_recipe(text).parameters["t"]


def linear(text: str) -> Recipe:
    return parse_recipe(f"merge_method: linear\nmodels: [{{model: a, parameters: {{weight: 1}}}}]\n{text}")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.5", (0.5,)),
        ("1", (1.0,)),
        ("'5e-1'", (0.5,)),
        ("5e-1", (0.5,)),  # YAML 1.1 reads this as text
        ("true", (1.0,)),
        ("[0, 0.5, '1']", (0.0, 0.5, 1.0)),
        ("[0.25]", (0.25,)),
        ("{value: 0.5}", (0.5,)),
        ("[{value: [0, 1]}]", (0.0, 1.0)),
        ("{filter: '*', value: 0.5}", (0.5,)),
        ("[{filter: null, value: 0.5}]", (0.5,)),
        ("1.5", (1.5,)),  # mergekit extrapolates
    ],
)
def test_values(text: str, values: tuple[float, ...]) -> None:
    assert slerp(text) == Setting((Rule(values),))


def test_filter_lists() -> None:
    setting = slerp("[{filter: self_attn, value: [0, 1]}, {filter: mlp, value: '0.5'}, {value: 0.25}]")
    assert setting == Setting((Rule((0.0, 1.0), "self_attn"), Rule((0.5,), "mlp"), Rule((0.25,))))
    assert slerp("{filter: mlp, value: 1}") == Setting((Rule((1.0,), "mlp"),))


@pytest.mark.parametrize(
    ("text", "value"), [("'yes'", True), ("'off'", False), ("1", True), ("0.0", False), ("no", False)]
)
def test_switches(text: str, value: bool) -> None:
    assert linear(f"parameters: {{normalize: {text}}}").parameters["normalize"] == Setting.constant(value)


def test_a_value_of_null_is_not_given() -> None:
    assert linear("parameters: {normalize: null}").parameters == {}
    assert linear("parameters: null").parameters == {}


def test_settings_at_a_tensor() -> None:
    setting = Setting((Rule((0.0, 1.0, 0.0), "attn"), Rule((0.25,), "mlp")))
    name = "layers.0.attn.weight"
    assert [setting.at(name, depth) for depth in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.0, 0.5, 1.0, 0.5, 0.0]
    assert setting.at("layers.0.mlp.weight", 0.7) == 0.25
    assert setting.at("norm.weight", 0.7) is None
    assert Setting.constant(True).at("norm.weight", 0.7) is True


def test_levels_are_kept_apart() -> None:
    recipe = parse_recipe(
        """
        merge_method: task_arithmetic
        base_model: base
        slices:
          - sources:
              - {model: base, layer_range: [0, 2]}
              - {model: a, layer_range: [1, 3], parameters: {weight: 1}}
            base_model: base
            parameters: {weight: 2, lambda: 3}
        parameters: {weight: 4, normalize: yes}
        dtype: torch.bfloat16
        out_dtype: float16
        tokenizer_source: base
        """
    )
    (part,) = recipe.slices
    assert part.sources[1] == Source("a", (1, 3), {"weight": Setting.constant(1)})
    assert part.base_model == "base"
    assert part.parameters == {"weight": Setting.constant(2), "lambda": Setting.constant(3)}
    assert recipe.parameters == {"weight": Setting.constant(4), "normalize": Setting.constant(True)}
    assert (recipe.dtype, recipe.out_dtype, recipe.tokenizer_source) == ("bfloat16", "float16", "base")


def test_yaml_anchors_and_merged_mappings() -> None:
    recipe = parse_recipe(
        """
        merge_method: ties
        base_model: base
        models:
          - model: a
            parameters: &common {weight: 0.5, density: 0.3}
          - model: b
            parameters: {<<: *common, weight: 0.7}
        """
    )
    assert recipe.models[1].parameters == {"weight": Setting.constant(0.7), "density": Setting.constant(0.3)}


def test_the_references_in_order() -> None:
    recipe = Recipe(
        "linear", models=(Source("b"), Source("a"), Source("base")), base_model="base", tokenizer_source="t"
    )
    assert recipe.references() == ("base", "b", "a", "t")
    assert replace(recipe, tokenizer_source="union").references() == ("base", "b", "a")


def test_renaming() -> None:
    recipe = Recipe("linear", models=(Source("base"), Source("a")), base_model="base", tokenizer_source="base")
    renamed = recipe.renamed({"base": "/zoo/base"})
    assert renamed.references() == ("/zoo/base", "a")
    assert renamed.tokenizer_source == "base"  # the word, not a reference
    assert replace(recipe, tokenizer_source="a").renamed({"a": "c"}).tokenizer_source == "c"
    assert renamed.renamed({"/zoo/base": "base"}) == recipe


FULL: dict[str, Any] = {
    "merge_method": "dare_ties",
    "base_model": "base",
    "models": [
        {"model": "a", "parameters": {"weight": [0.1, 1e-05, 1e22], "density": 0.5}},
        {"model": "b", "parameters": {"weight": [{"filter": "mlp", "value": 0.7}, {"value": [0.2, 0.3]}]}},
    ],
    "parameters": {"lambda": 1.1, "normalize": False},
    "dtype": "float32",
    "out_dtype": "bfloat16",
    "tokenizer_source": "base",
    "chat_template": "{{ messages[0]['content'] }}: \"ü\"\n",
    "mergesmith": {"schema_version": 1, "seed": 7, "tasks": ["x", {"y": 0.1}], "note": "kept: as it is"},
}


def test_the_own_block_survives() -> None:
    recipe = recipe_from_document(FULL)
    assert recipe.seed == 7
    assert recipe.facts == {"tasks": ["x", {"y": 0.1}], "note": "kept: as it is"}
    again = parse_recipe(recipe.to_yaml())
    assert again == recipe
    assert again.facts == recipe.facts
    assert again.to_document() == recipe.to_document()
    assert recipe_from_document(recipe.to_document()) == recipe


def test_facts_take_no_part_in_equality_but_the_seed_does() -> None:
    recipe = recipe_from_document(FULL)
    assert replace(recipe, facts={}) == recipe
    assert replace(recipe, facts={}).digest == recipe.digest
    assert replace(recipe, seed=8) != recipe
    assert replace(recipe, seed=8).digest != recipe.digest


def floats() -> list[float]:
    generator = random.Random(0)
    chosen = [1e-05, 1e22, 0.1, 0.0, 5e-324, 1.7976931348623157e308, 1 / 3, 1e16, 123456789012345680.0, 1e-7, 100.0]
    spread = [generator.uniform(-1, 1) * 10.0 ** generator.randint(-300, 300) for _ in range(300)]
    return chosen + spread + [generator.random() for _ in range(300)]


def test_floats_survive_yaml_exactly() -> None:
    values = tuple(floats())
    recipe = Recipe("passthrough", models=(Source("a", parameters={"scale": Setting((Rule(values),))}),))
    text = recipe.to_yaml()
    assert parse_recipe(text) == recipe
    read = parse_recipe(text).models[0].parameters["scale"].rules[0].values
    assert [float(value).hex() for value in read] == [value.hex() for value in values]
    assert "!!float" not in text  # plain numbers, in YAML 1.1 too
    # Stock YAML readers must find numbers too, not text.
    raw = yaml.safe_load(text)["models"][0]["parameters"]["scale"]
    assert raw == list(values)
    assert all(type(value) is float for value in raw)


@pytest.mark.parametrize("other", [1, np.float64(1.0), np.float32(1.0)], ids=["int", "float64", "float32"])
def test_equal_numbers_are_written_alike(other: Any) -> None:
    def with_weight(value: Any) -> Recipe:
        return Recipe("linear", models=(Source("a", parameters={"weight": Setting.constant(value)}),))

    assert with_weight(other) == with_weight(1.0)
    assert with_weight(other).digest == with_weight(1.0).digest
    assert with_weight(other).to_yaml() == with_weight(1.0).to_yaml()
    assert with_weight(-0.0).digest == with_weight(0.0).digest


def test_the_digest_does_not_depend_on_the_order_of_parameters() -> None:
    first = {"weight": Setting.constant(0.1), "density": Setting.constant(0.2)}
    one = Recipe("ties", models=(Source("a", parameters=first),), base_model="b")
    other = Recipe("ties", models=(Source("a", parameters=dict(reversed(first.items()))),), base_model="b")
    assert one.digest == other.digest
    assert one.to_yaml() == other.to_yaml()


def test_the_order_of_models_matters() -> None:
    recipe = recipe_from_document(FULL)
    assert replace(recipe, models=tuple(reversed(recipe.models))).digest != recipe.digest


def test_the_digest_is_the_same_in_every_process() -> None:
    recipe = recipe_from_document(FULL)
    code = (
        "import sys\nfrom mergesmith.merge_ops import parse_recipe\n"
        "recipe = parse_recipe(sys.stdin.read())\nprint(recipe.digest)\nprint(recipe.to_yaml())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=recipe.to_yaml(),
        # Not the hash seed of this process, which sets and dicts of text would show.
        env={"PYTHONHASHSEED": "17", "PATH": "", "PYTHONUTF8": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    digest, text = done.stdout.split("\n", 1)
    assert digest == recipe.digest
    assert text.rstrip("\n") == recipe.to_yaml().rstrip("\n")


def test_reading_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_from_document(FULL).to_yaml(), encoding="utf-8")
    assert read_recipe(path) == recipe_from_document(FULL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "models: [{model: a, parameters: {weight: 1, density: 0.5}}]",
            r"models\[0\]\.parameters\.density: has no effect",
        ),
        (
            "models: [{model: a, layer_range: [0, 4], parameters: {weight: 1}}]",
            r"layer_range: has no effect under models",
        ),
        ("models: [{model: a, parameters: {weight: 1, normalize: true}}]", r"normalize: has no effect under a model"),
    ],
)
def test_keys_without_effect_are_warnings(text: str, message: str) -> None:
    with pytest.warns(RecipeWarning, match=message):
        parse_recipe(f"merge_method: linear\n{text}")


def test_a_weight_on_the_base_is_a_warning() -> None:
    models = "[{model: b, parameters: {weight: 1}}, {model: a}]"
    text = f"merge_method: ties\nbase_model: b\nparameters: {{weight: 1}}\nmodels: {models}"
    with pytest.warns(RecipeWarning, match=r"models\[0\]\.parameters\.weight: has no effect on the base model"):
        parse_recipe(text)

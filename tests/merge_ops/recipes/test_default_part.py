"""`modules: {default: ...}`, the form in which mergekit writes every recipe."""

from __future__ import annotations

from pathlib import Path

import torch

from mergesmith.merge_ops import ModelBank, materialize, parse_recipe

INNER = """
slices:
  - sources: [{model: a, layer_range: [0, 4]}, {model: b, layer_range: [0, 4]}]
    parameters: {t: 0.25}
"""
TOP = "merge_method: slerp\nbase_model: a\ndtype: float32\n"


def wrapped(parameters: str = "") -> str:
    inner = "".join(f"    {line}\n" for line in f"{INNER}{parameters}".strip().splitlines())
    return f"{TOP}modules:\n  default:\n{inner}"


def test_default_is_the_same_as_its_content(in_llama: Path) -> None:
    recipe, plain = parse_recipe(wrapped()), parse_recipe(TOP + INNER)
    assert recipe == plain
    bank = ModelBank(("a", "b"))
    found, expected = dict(materialize(recipe, bank)), dict(materialize(plain, bank))
    assert found and all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_parameters_of_default_take_precedence_over_those_of_the_recipe() -> None:
    inner = "models: [{model: a}, {model: b}]\n"
    text = f"merge_method: linear\nparameters: {{weight: 1, normalize: false}}\nmodules:\n  default:\n    {inner}"
    text += "    parameters: {weight: [{filter: mlp, value: 3}]}\n"
    rules = "[{filter: mlp, value: 3}, {value: 1}]"
    assert parse_recipe(text) == parse_recipe(
        f"merge_method: linear\n{inner}parameters: {{weight: {rules}, normalize: false}}\n"
    )

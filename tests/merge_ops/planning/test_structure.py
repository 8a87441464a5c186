"""Frankenmerges: repeated, shifted and mixed runs of layers, and the configuration that goes with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from families import write_models
from transformers import AutoModelForCausalLM

from mergesmith.errors import UserError
from mergesmith.merge_ops import LiveModel, ModelBank, WeightsDigest, materialize, parse_recipe, plan_merge, write_merge
from mergesmith.merge_ops.architectures.architecture import is_before_layers
from mergesmith.merge_ops.architectures.quiet_transformers import quiet_transformers
from mergesmith.merge_ops.planning.output_config import merged_config

TOKENS = torch.tensor([[1, 7, 4, 20, 33, 9, 2, 11, 12, 13, 14, 15]])
OVERLAP = """
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 3]}]
  - sources:
      - model: b
        layer_range: [1, 3]
        parameters:
          scale:
            - {filter: o_proj, value: 0.5}
            - {filter: down_proj, value: 0.25}
            - {value: 1}
  - sources: [{model: base, layer_range: [2, 4]}]
"""
# What mergekit 0.1.5 writes for OVERLAP on these models; passthrough rounds at most once, so bits are comparable.
MERGEKIT = {
    "llama": "b84694e12abacd007afb4211c67f6211bc8dfc8bf158f7f612469dfd3189fabc",
    "qwen3": "148197e2540c7033bad1288a2a3f418c06962fe0b049d011525de5d0824571f5",
}
BASES = """
merge_method: task_arithmetic
base_model: base
slices:
  - sources:
      - {model: base, layer_range: [0, 2]}
      - {model: a, layer_range: [0, 2], parameters: {weight: [0.2, 0.8]}}
  - base_model: a
    sources:
      - {model: a, layer_range: [1, 4]}
      - {model: b, layer_range: [1, 4]}
    parameters: {weight: 0.5, lambda: 1.5}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stack(*runs: tuple[str, int, int]) -> str:
    lines = [f"  - sources: [{{model: {model}, layer_range: [{start}, {stop}]}}]" for model, start, stop in runs]
    return "\n".join(["merge_method: passthrough", "slices:", *lines])


def config(text: str) -> dict[str, object]:
    recipe = parse_recipe(text)
    bank = ModelBank(recipe.references())
    return merged_config(plan_merge(recipe, bank), bank)


@torch.no_grad()
def check_loads(text: str) -> None:
    """The written model loads whole and is the live one."""
    recipe = parse_recipe(text)
    bank = ModelBank(recipe.references())
    live = LiveModel(bank)
    live.load(recipe)
    write_merge(recipe, bank, Path("out"))
    with quiet_transformers():
        again, told = cast(Any, AutoModelForCausalLM).from_pretrained("out", output_loading_info=True)
    assert not any(told.values()), told
    assert torch.equal(live.model(TOKENS).logits, again.eval()(TOKENS).logits)


@pytest.mark.parametrize("family", MERGEKIT)
def test_the_same_bits_as_mergekit(family: str, folder: Path) -> None:
    write_models(folder, family)
    recipe = parse_recipe(OVERLAP)
    digest = WeightsDigest()
    for _ in digest.watch(materialize(recipe, ModelBank(recipe.references()))):
        pass
    assert digest.hex == MERGEKIT[family]
    check_loads(OVERLAP)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "gemma2", "lfm2"])
def test_first_and_last_slices_of_no_layers(family: str, folder: Path) -> None:
    """They give the embeddings, and the final norm and head; tests/golden has mergekit's result."""
    write_models(folder, family)
    text = stack(("b", 0, 0), ("a", 0, 4), ("base", 4, 4))
    recipe = parse_recipe(text)
    bank = ModelBank(recipe.references())
    architecture = bank["a"].architecture
    for name, tensor in materialize(recipe, bank):
        outside = "b" if is_before_layers(name) else "base"
        assert torch.equal(tensor, bank["a" if architecture.layer(name) is not None else outside].tensor(name)), name
    check_loads(text)


def test_every_slice_has_its_base_and_parameters(folder: Path) -> None:
    write_models(folder, "qwen3")
    recipe = parse_recipe(BASES)
    bank = ModelBank(recipe.references())
    found = dict(materialize(recipe, bank))

    def source(model: str, layer: int) -> torch.Tensor:
        return bank[model].tensor(f"model.layers.{layer}.mlp.up_proj.weight")

    name = "model.layers.{}.mlp.up_proj.weight"
    torch.testing.assert_close(found[name.format(1)], 0.2 * source("base", 1) + 0.8 * source("a", 1))
    torch.testing.assert_close(found[name.format(2)], 0.25 * source("a", 1) + 0.75 * source("b", 1))
    torch.testing.assert_close(found[name.format(4)], 0.25 * source("a", 3) + 0.75 * source("b", 3))
    check_loads(BASES)


def test_kinds_of_attention_follow_their_layers(folder: Path) -> None:
    write_models(folder, "gemma2")
    text = stack(("a", 0, 3), ("b", 0, 2))
    assert config(text)["layer_types"] == [f"{kind}_attention" for kind in ("sliding", "full", "sliding") * 2][:5]
    check_loads(text)


def test_kinds_that_config_json_does_not_list_are_written_out(folder: Path) -> None:
    """Older files say only that layers alternate, which is wrong after two of a kind meet."""
    write_models(folder, "gemma2")
    for model in ("base", "a", "b"):
        path = folder / model / "config.json"
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "layer_types"}))
    kinds = ["sliding_attention", "full_attention", "full_attention"]
    assert config(stack(("a", 0, 2), ("b", 1, 2)))["layer_types"] == kinds
    assert "layer_types" not in config(stack(("a", 0, 4)))


def test_lists_of_layer_numbers_follow(folder: Path) -> None:
    write_models(folder, "qwen3_moe")
    text = stack(("a", 1, 4), ("b", 0, 2), ("a", 1, 2))
    assert config(text)["mlp_only_layers"] == [0, 4, 5]
    check_loads(text)


@pytest.mark.parametrize("family", ["qwen3_next", "lfm2", "gpt_oss"])
def test_hybrids_are_stacked(family: str, folder: Path) -> None:
    write_models(folder, family)
    check_loads(stack(("a", 0, 3), ("b", 1, 4), ("a", 3, 4)))


def test_dense_layers_that_stay_first_are_stacked(folder: Path) -> None:
    write_models(folder, "deepseek_v3")
    check_loads(stack(("a", 0, 3), ("b", 1, 4)))


def test_orders_that_no_configuration_describes(folder: Path) -> None:
    write_models(folder, "deepseek_v3")
    with pytest.raises(UserError) as caught:
        config(stack(("a", 0, 3), ("b", 0, 2)))
    message = str(caught.value)
    assert "layer 3 is layer 0 of 'b', which differs from what config.json describes there in model.layers.3" in message
    assert "places kinds of layers by number (first_k_dense_replace: 1" in message


def test_periods_that_a_new_order_breaks(folder: Path) -> None:
    write_models(folder, "jamba")
    check_loads(stack(("a", 0, 4), ("b", 2, 4)))
    with pytest.raises(UserError, match="attn_layer_offset: 1"):
        config(stack(("a", 0, 4), ("b", 1, 4)))

"""Every family: merged, written, loaded without a key too many or too few, and equal to the live model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from families import FAMILIES, write_models
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from mergesmith.merge_ops import Checkpoint, LiveModel, ModelBank, Recipe, materialize, parse_recipe, write_merge
from mergesmith.merge_ops.architectures.quiet_transformers import quiet_transformers

TOKENS = torch.tensor([[1, 7, 4, 20, 33, 9, 2, 11, 12, 13, 14, 15]])
LINEAR = """
merge_method: linear
models:
  - {model: base, parameters: {weight: 0.2}}
  - {model: a, parameters: {weight: [0.1, 0.9]}}
  - {model: b, parameters: {weight: 0.3}}
"""
TIES = """
merge_method: ties
base_model: base
models:
  - {model: a, parameters: {weight: 0.6, density: 0.5}}
  - {model: b, parameters: {weight: [0.9, 0.2], density: 0.7}}
"""
ROUTERS = {
    "mixtral": "block_sparse_moe.gate.weight",
    "qwen3_moe": "mlp.gate.weight",
    "deepseek_v3": "mlp.gate.",  # the correction bias is the router's too
    "gpt_oss": "mlp.router.",
    "qwen3_next": "mlp.gate.weight",
    "jamba": "feed_forward.router.weight",
}
FUSED = ("mixtral", "qwen3_moe", "deepseek_v3", "qwen3_next", "jamba")
RENAMED = ("gpt_neox",)


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, named like the family, with its base, a and b. Not to be written to."""
    return write(tmp_path_factory, request.param)


def write(factory: pytest.TempPathFactory, name: str) -> Path:
    folder = factory.mktemp("families") / name
    write_models(folder, name)
    return folder


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def merged(recipe: Recipe, root: Path) -> dict[str, torch.Tensor]:
    return dict(materialize(recipe, ModelBank(recipe.references(), roots=[root])))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@torch.no_grad()
@pytest.mark.parametrize("text", [LINEAR, TIES], ids=["linear", "ties"])
def test_written_loaded_and_live_are_one_model(family: Path, text: str, tmp_path: Path) -> None:
    recipe = parse_recipe(text)
    bank = ModelBank(recipe.references(), roots=[family])
    live = LiveModel(bank)
    live.load(recipe)
    write_merge(recipe, bank, tmp_path / "out")
    with quiet_transformers():
        again, told = cast(Any, AutoModelForCausalLM).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(told.values()), told
    assert same(state(live.model), state(again))
    assert torch.equal(live.model(TOKENS).logits, again.eval()(TOKENS).logits)


def test_a_sharded_source_is_the_same(family: Path, tmp_path: Path) -> None:
    write_models(tmp_path, family.name, shards=3)
    recipe = parse_recipe(TIES)
    assert len(list((tmp_path / "a").glob("*.safetensors"))) == 3
    assert same(merged(recipe, tmp_path), merged(recipe, family))


@pytest.mark.parametrize("name", ROUTERS)
def test_routers_have_parameters_of_their_own(name: str, tmp_path: Path) -> None:
    write_models(tmp_path, name)
    filters = f"[{{filter: {ROUTERS[name]}, value: 0}}, {{value: 1}}]"
    recipe = parse_recipe(
        f"merge_method: linear\nmodels: [{{model: a, parameters: {{weight: {filters}}}}},\n"
        f"  {{model: b, parameters: {{weight: {filters.replace('0}', '1}').replace('value: 1}]', 'value: 0}]')}}}}}]"
    )
    found = merged(recipe, tmp_path)
    a, b = (Checkpoint(str(tmp_path / model)) for model in "ab")
    routers = [tensor_name for tensor_name in found if ROUTERS[name] in tensor_name]
    assert routers
    for tensor_name, tensor in found.items():
        assert torch.equal(tensor, (b if tensor_name in routers else a).tensor(tensor_name)), tensor_name


def with_stored_names(folder: Path, rename: Callable[[Path], dict[str, torch.Tensor]]) -> Checkpoint:
    copy = shutil.copytree(folder, folder.with_name(f"{folder.name}-renamed"))
    save_file(rename(folder), copy / "model.safetensors", metadata={"format": "pt"})
    return Checkpoint(str(copy))


@pytest.mark.parametrize("name", [*FUSED, *RENAMED])
def test_files_in_the_names_of_the_modules(name: str, tmp_path: Path) -> None:
    """Newer programs save what the model holds: a layer's experts in one tensor, a head under its new name."""

    def as_live(folder: Path) -> dict[str, torch.Tensor]:
        with quiet_transformers():
            return state(AutoModelForCausalLM.from_pretrained(folder))

    write_models(tmp_path, name)
    renamed = with_stored_names(tmp_path / "a", as_live)
    own = Checkpoint(str(tmp_path / "a"))
    assert {entry.stored_name for entry in renamed.entries.values()} != set(own.entries)
    assert renamed.weights_digest == own.weights_digest
    recipe = parse_recipe(LINEAR)
    expected = merged(recipe, tmp_path)
    assert same(merged(recipe.renamed({"a": "a-renamed"}), tmp_path), expected)


def test_files_without_the_prefix(family: Path, tmp_path: Path) -> None:
    def bare(folder: Path) -> dict[str, torch.Tensor]:
        tensors = load_file(folder / "model.safetensors")
        return {name.removeprefix("model.").removeprefix("transformer."): t for name, t in tensors.items()}

    copy = shutil.copytree(family / "a", tmp_path / "a")
    assert with_stored_names(copy, bare).weights_digest == Checkpoint(str(family / "a")).weights_digest

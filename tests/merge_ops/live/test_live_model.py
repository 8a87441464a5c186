"""The live model is the written checkpoint: same bits, same logits, in storage that stays where it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, write_family, write_model
from transformers import AutoModelForCausalLM

from mergesmith.merge_ops import (
    LiveModel,
    ModelBank,
    Recipe,
    Residency,
    WeightsDigest,
    materialize,
    parse_recipe,
    write_merge,
)
from mergesmith.merge_ops.architectures.quiet_transformers import quiet_transformers
from mergesmith.merge_ops.architectures.weight_views import checkpoint_views

TOKENS = torch.tensor([[1, 7, 4, 20, 33, 9, 2]])

TIES = """
merge_method: ties
base_model: base
models:
  - {model: a, parameters: {weight: [0.2, 0.9], density: 0.6}}
  - {model: b, parameters: {weight: 0.5, density: [0.3, 1]}}
parameters: {normalize: false}
"""
DARE = TIES.replace("ties", "dare_linear")
STACK = """
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 4]}]
  - sources: [{model: b, layer_range: [2, 4]}]
"""


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A family of models in the working directory."""
    write_family(tmp_path, request.param, models=2)
    monkeypatch.chdir(tmp_path)
    return request.param


def open_live(recipe: Recipe) -> LiveModel:
    live = LiveModel(ModelBank(recipe.references()))
    live.load(recipe)
    return live


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model(TOKENS).logits


def bits(live: LiveModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in live.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def reloaded(folder: Path) -> torch.nn.Module:
    with quiet_transformers():
        return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("text", [TIES, DARE, STACK], ids=["ties", "dare", "stack"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_equals_the_written_checkpoint(family: str, text: str, dtype: str) -> None:
    recipe = parse_recipe(f"{text}\ndtype: float32\nout_dtype: {dtype}\n")
    bank, digest = ModelBank(recipe.references()), WeightsDigest()
    live = LiveModel(bank)
    live.load(recipe, digest=digest)
    written = write_merge(recipe, bank, Path("out"))
    assert written.digest == digest.hex
    again = reloaded(Path("out"))
    assert live.model.dtype == next(again.parameters()).dtype == getattr(torch, dtype)
    assert same(bits(live), dict(again.state_dict()))
    assert torch.equal(logits(live.model), logits(again))
    assert not live.model.training
    assert live.model.config.num_hidden_layers == (6 if text == STACK else 4)


def test_going_back_gives_the_first_bits(family: str) -> None:
    recipes = [parse_recipe(text) for text in (TIES, DARE)]
    live = open_live(recipes[0])
    first, model = bits(live), live.model
    pointers = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    live.load(recipes[1])
    assert not same(bits(live), first)
    live.load(recipes[0])
    assert same(bits(live), first)
    assert live.model is model
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == pointers


def test_every_weight_is_overwritten(family: str) -> None:
    recipe = parse_recipe(TIES)
    live = open_live(recipe)
    first = bits(live)
    with torch.no_grad():
        for tensor in live.model.state_dict().values():
            tensor.fill_(float("nan"))
    live.load(recipe)
    assert same(bits(live), first)


def test_stacking_rebuilds_and_comes_back(family: str) -> None:
    recipe, stack = parse_recipe(TIES), parse_recipe(STACK)
    live = LiveModel(ModelBank(recipe.references()))
    live.load(recipe)
    first, model = bits(live), live.model
    live.load(stack)
    assert live.model is not model
    assert live.model.config.num_hidden_layers == 6
    assert bool(logits(live.model).isfinite().all())
    live.load(recipe)
    assert same(bits(live), first)


def test_views_are_the_checkpoint(family: str) -> None:
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained("a")
    stored = load_file("a/model.safetensors")
    views = checkpoint_views(model)
    for name, tensor in stored.items():
        assert torch.equal(torch.cat([v.target.reshape(-1) for v in views[name]]), tensor.reshape(-1)), name
    storages = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    assert all(v.target.untyped_storage().data_ptr() in storages for found in views.values() for v in found)


@pytest.mark.parametrize("text", [TIES, DARE, STACK], ids=["ties", "dare", "stack"])
def test_digests_agree_for_every_thread_count(text: str, in_llama: Path, tmp_path: Path) -> None:
    recipe = parse_recipe(text)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            bank = ModelBank(recipe.references(), residency=Residency(resident=threads == 2))
            digest, streamed = WeightsDigest(), WeightsDigest()
            LiveModel(bank).load(recipe, digest=digest)
            for _ in streamed.watch(materialize(recipe, bank)):
                pass
            found += [digest.hex, streamed.hex]
    finally:
        torch.set_num_threads(before)
    assert set(found) == {write_merge(recipe, ModelBank(recipe.references()), tmp_path / "out").digest}


@pytest.mark.parametrize("text", [TIES, STACK], ids=["ties", "stack"])
def test_rotary_tables_are_not_rounded(text: str, in_llama: Path) -> None:
    live = open_live(parse_recipe(f"{text}\nout_dtype: bfloat16"))
    assert live.model.dtype == torch.bfloat16
    tables = [(name, table) for name, table in live.model.named_buffers() if "inv_freq" in name]
    assert tables
    size = 8  # elements of a head
    exact = 10000.0 ** -(torch.arange(0, size, 2).double() / size)
    for name, table in tables:
        assert table.dtype == torch.float32, name
        torch.testing.assert_close(table.double(), exact, rtol=1e-6, atol=0)


def test_a_new_output_dtype_rebuilds(in_llama: Path) -> None:
    live = open_live(parse_recipe(TIES))
    assert live.model.dtype == torch.float32
    live.load(parse_recipe(TIES + "out_dtype: float16"))
    assert live.model.dtype == torch.float16


def test_names_without_the_prefix_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_family(tmp_path, "gpt2", models=2)
    recipe = parse_recipe(TIES)
    expected = bits(open_live(recipe))
    for model in ("base", "a"):
        path = Path(model) / "model.safetensors"
        bare = {name.removeprefix("transformer."): tensor.clone() for name, tensor in load_file(path).items()}
        save_file({**bare, "h.0.attn.bias": torch.ones(1, 1, 256, 256)}, path, metadata={"format": "pt"})
    assert same(bits(open_live(recipe)), expected)


def test_layers_of_several_kinds_keep_their_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reordered layers have the depth of their model, but not its list of layer types."""
    monkeypatch.chdir(tmp_path)
    kinds = ["full_attention", "full_attention", "sliding_attention", "sliding_attention"]
    sliding = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 2, "layer_types": kinds}
    write_model(tmp_path / "m", "qwen2", **sliding)
    text = "merge_method: passthrough\nslices:\n"
    for start in (2, 0):
        text += f"- sources: [{{model: m, layer_range: [{start}, {start + 2}]}}]\n"
    recipe = parse_recipe(text)
    live = open_live(recipe)
    assert live.model.config.layer_types == kinds[::-1]
    write_merge(recipe, ModelBank(recipe.references()), Path("out"))
    again = reloaded(Path("out"))
    assert again.config.layer_types == kinds[::-1]  # type: ignore[union-attr]
    assert torch.equal(logits(live.model), logits(again))


def test_a_checkpoint_of_mixed_dtypes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms kept in float32 stay so on disk; the model, loaded or live, has the dtype of its configuration."""
    monkeypatch.chdir(tmp_path)
    write_family(tmp_path, models=2, dtype="bfloat16")
    for model in ("base", "a", "b"):
        path = Path(model) / "model.safetensors"
        tensors = {n: t.float() + 1e-5 if "norm" in n else t.clone() for n, t in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
    recipe = parse_recipe(TIES)
    bank, digest = ModelBank(recipe.references()), WeightsDigest()
    live = LiveModel(bank)
    live.load(recipe, digest=digest)
    assert write_merge(recipe, bank, Path("out")).digest == digest.hex
    assert load_file("out/model.safetensors")["model.norm.weight"].dtype == torch.float32
    assert live.model.dtype == torch.bfloat16
    assert same(bits(live), dict(reloaded(Path("out")).state_dict()))


def test_there_is_no_model_before_the_first_recipe(in_llama: Path) -> None:
    with pytest.raises(RuntimeError, match="no recipe has been loaded yet"):
        _ = LiveModel(ModelBank(("a",))).model


def test_a_failed_build_is_built_again(in_llama: Path, tmp_path: Path) -> None:
    """A folder that cannot be loaded once must not leave a model without storage behind."""
    write_family(tmp_path, models=2)
    recipe = parse_recipe(TIES).renamed({name: str(tmp_path / name) for name in ("base", "a", "b")})
    live = open_live(recipe)
    expected = bits(live)
    hidden = tmp_path / "base" / "model.safetensors"
    with pytest.raises(OSError, match=r"model\.safetensors"):
        hidden.rename(tmp_path / "hidden")
        other = parse_recipe(TIES + "out_dtype: float16").renamed({n: str(tmp_path / n) for n in ("base", "a", "b")})
        live.load(other)
    (tmp_path / "hidden").rename(hidden)
    live.load(recipe)
    assert same(bits(live), expected)

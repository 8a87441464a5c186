"""Opening checkpoint folders: what is accepted, and what is refused with which words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, write_model

from mergesmith.errors import UserError
from mergesmith.merge_ops import Checkpoint, CheckpointWarning, ModelBank, Residency
from mergesmith.merge_ops.architectures.architecture import is_before_layers, layer_of, with_layer

Tensors = dict[str, torch.Tensor]


def weights(folder: Path) -> Tensors:
    return load_file(folder / "model.safetensors")


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    """Replace the weights of a single-file checkpoint."""
    tensors = {name: tensor.clone() for name, tensor in change(weights(folder)).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def reconfigure(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def refused(reference: object) -> str:
    with pytest.raises(UserError) as caught:
        Checkpoint(str(reference))
    assert str(reference) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shards", [1, 3])
def test_every_tensor_is_there(family: str, shards: int, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", family, shards=shards)
    checkpoint = Checkpoint(str(folder))
    stored: Tensors = {}
    for file in folder.glob("*.safetensors"):
        stored |= load_file(file)
    assert list(checkpoint.entries) == sorted(stored)
    assert all(torch.equal(checkpoint.tensor(name), tensor) for name, tensor in stored.items())
    assert checkpoint.nbytes == sum(tensor.nbytes for tensor in stored.values())
    assert checkpoint.architecture.num_layers == 4


def test_references_are_folders_below_the_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "zoo" / "m")
    for reference in ("m", "m/", "./m"):
        assert Checkpoint(reference, roots=[tmp_path / "zoo"]).folder.resolve() == folder.resolve()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Checkpoint("~/zoo/m").folder == folder
    monkeypatch.chdir(tmp_path)
    assert Checkpoint("zoo/m/").folder.resolve() == folder.resolve()


def test_missing_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"no such folder (looked in {Path.cwd()})" in refused("nowhere")
    assert "no such folder" in refused("./nowhere/at/all")
    assert "no such folder" in refused("~nobody-of-that-name/x")
    (tmp_path / "file").write_text("")
    assert "is a file; name the folder" in refused("file")


@pytest.mark.parametrize("reference", ["nobody/no-such-model", "nobody/no-such-model@main"])
def test_the_hub_does_not_give_it(reference: str) -> None:
    message = refused(reference)
    assert "not a folder, and cannot be downloaded from the hub" in message
    assert "\n" not in message


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    assert "no config.json" in refused(tmp_path)
    write_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "weights.bin")
    message = refused(tmp_path)
    assert "no model.safetensors and no model.safetensors.index.json" in message
    assert "(it contains weights.bin)" in message


def test_a_file_cut_short(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m") / "model.safetensors"
    data = path.read_bytes()
    for size in (len(data) - 1, 100, 0):
        path.write_bytes(data[:size])
        assert "model.safetensors is damaged or truncated" in refused(tmp_path / "m")


def test_a_missing_shard(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "names files that do not exist: model-00002-of-00003.safetensors" in refused(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_a_damaged_index(text: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", shards=2)
    (folder / "model.safetensors.index.json").write_text(text)
    assert "model.safetensors.index.json cannot be read" in refused(folder)


def test_a_file_and_an_index(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", shards=2)
    save_file(weights(write_model(tmp_path / "other")), folder / "model.safetensors")
    assert "contains both model.safetensors and model.safetensors.index.json" in refused(folder)


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", shards=2)
    first, second = (folder / f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    name, tensor = next(iter(load_file(first).items()))
    save_file({**load_file(second), name: tensor + 1}, second)
    assert f"contain these tensors twice: {name}" in refused(folder)


def test_a_configuration_that_describes_other_tensors(tmp_path: Path) -> None:
    folder = reconfigure(write_model(tmp_path / "m"), intermediate_size=96)
    message = refused(folder)
    assert "model.layers.0.mlp.down_proj.weight: has shape [32, 64], but config.json describes [32, 96]" in message
    assert message.splitlines()[0].endswith("12 faults")


def test_missing_and_additional_tensors(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    rewrite(folder, lambda t: {n: x for n, x in t.items() if "q_proj" not in n})
    message = refused(folder)
    assert (
        "4 tensors that config.json describes are not in its files: model.layers.0.self_attn.q_proj.weight" in message
    )
    folder = rewrite(write_model(tmp_path / "n"), lambda t: {**t, "value_head.weight": torch.zeros(3)})
    with pytest.warns(CheckpointWarning, match=r"1 tensors .* are ignored: value_head\.weight"):
        assert "value_head.weight" not in Checkpoint(str(folder)).entries


def test_configurations_that_cannot_be_used(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    assert "config.json cannot be used" in refused(reconfigure(folder, model_type="no_such_model"))
    (folder / "config.json").write_text("{")
    assert "config.json cannot be used" in refused(folder)


def test_models_that_are_no_causal_language_models(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    assert "describes no model that transformers can build" in refused(folder)


def test_quantized_weights_are_refused(tmp_path: Path) -> None:
    """Their scales lie in tensors of their own: codes would be averaged without a word."""
    folder = reconfigure(
        write_model(tmp_path / "m"), quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]}
    )
    assert "its weights are quantized" in refused(folder)


def test_a_dtype_that_is_not_merged(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    rewrite(folder, lambda t: {**t, "model.norm.weight": t["model.norm.weight"].to(torch.complex64)})
    assert "tensor 'model.norm.weight' has dtype C64, which is not supported; use a checkpoint with" in refused(folder)


HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"


def test_tied_models_may_store_the_shared_tensor_twice(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "qwen2")
    digest = Checkpoint(str(folder)).weights_digest
    rewrite(folder, lambda t: {**t, HEAD: t[EMBEDDINGS]})
    checkpoint = Checkpoint(str(folder))
    assert HEAD not in checkpoint.entries
    assert checkpoint.weights_digest == digest


def test_tied_models_may_store_the_shared_tensor_under_the_other_name(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "qwen2")
    digest = Checkpoint(str(folder)).weights_digest
    rewrite(folder, lambda t: {(HEAD if n == EMBEDDINGS else n): x for n, x in t.items()})
    assert Checkpoint(str(folder)).weights_digest == digest


def test_tied_models_must_not_hold_another_head(tmp_path: Path) -> None:
    folder = rewrite(write_model(tmp_path / "m", "qwen2"), lambda t: {**t, HEAD: t[EMBEDDINGS] + 1})
    assert f"{HEAD}: differs from '{EMBEDDINGS}', but config.json ties them" in refused(folder)


def test_names_without_the_prefix_of_the_model(tmp_path: Path) -> None:
    """GPT-2 as it lies on the hub: no prefix, and causal masks stored as buffers."""

    def as_on_the_hub(tensors: Tensors) -> Tensors:
        bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 256, 256).tril() for i in range(4)}
        return {**bare, **masks, "h.0.attn.masked_bias": torch.tensor(-1e4)}

    folder = write_model(tmp_path / "m", "gpt2")
    usual = Checkpoint(str(folder))
    names, digest = list(usual.entries), usual.weights_digest
    rewrite(folder, as_on_the_hub)
    assert list(Checkpoint(str(folder)).entries) == names
    assert Checkpoint(str(folder)).weights_digest == digest


def test_names_with_a_prefix_too_many(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "llama")
    digest = Checkpoint(str(folder)).weights_digest
    rewrite(folder, lambda t: {(f"model.{n}" if n == HEAD else n): x for n, x in t.items()})
    assert Checkpoint(str(folder)).weights_digest == digest


def test_rotary_tables_in_the_files_are_ignored(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    rewrite(folder, lambda t: {**t, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)})
    assert len(Checkpoint(str(folder)).entries) == 39


def test_tensor_names() -> None:
    assert layer_of("model.layers.12.mlp.experts.3.w1.weight") == 12
    assert layer_of("h.0.attn.c_attn.weight") == 0
    assert layer_of("model.norm.weight") is None
    assert with_layer("model.layers.12.mlp.experts.3.w1.weight", 4) == "model.layers.4.mlp.experts.3.w1.weight"
    assert is_before_layers("transformer.wpe.weight")
    assert is_before_layers("gpt_neox.embed_in.weight")
    assert not is_before_layers("embed_out.weight")
    assert not is_before_layers("lm_head.weight")


def test_a_bank_opens_each_model_once(in_llama: Path) -> None:
    bank = ModelBank(("a", "b"))
    first = bank["a"]
    bank.open(("a", "c"))
    assert bank["a"] is first
    assert bank.references == ("a", "b", "c")


def test_a_resident_bank_keeps_copies(in_llama: Path) -> None:
    key = ("a", "model.norm.weight")
    mapped, resident = ModelBank(("a",)), ModelBank(("a",), residency=Residency(resident=True))
    assert torch.equal(mapped.tensor(key), resident.tensor(key))
    assert resident.tensor(key) is resident.tensor(key)


def test_statistics_are_kept_by_inputs_and_dtype(in_llama: Path) -> None:
    bank = ModelBank(("a", "b"))
    keys = (("a", "model.norm.weight"), ("b", "model.norm.weight"))
    gram = bank.statistics(keys, None, None).gram()
    assert bank.statistics(keys, None, None).gram() is gram
    assert bank.statistics(keys[::-1], None, None).gram()[0, 0] == gram[1, 1]
    assert bank.statistics(keys, None, torch.bfloat16).gram()[0, 0] != gram[0, 0]
    x, y = (bank.tensor(key).double() for key in keys)
    assert gram[0, 1] == pytest.approx(float((x * y).sum()), rel=1e-12)

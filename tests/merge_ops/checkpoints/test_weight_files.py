"""Checkpoints that torch.save wrote: the same model as the safetensors, and nothing in them is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import FAMILIES, write_model

from mergesmith.errors import UserError
from mergesmith.merge_ops import Checkpoint, ModelBank, parse_recipe, write_merge

EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"


class Marker:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.path),)


def pickled(folder: Path, shards: int = 1) -> Path:
    """Rewrite a single-file checkpoint as pickles."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if shards == 1:
        torch.save(tensors, folder / "pytorch_model.bin")
        return folder
    weight_map = {name: f"pytorch_model-{i % shards + 1:05d}-of-{shards:05d}.bin" for i, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        torch.save({n: t for n, t in tensors.items() if weight_map[n] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        Checkpoint(str(folder))
    return str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_model_as_safetensors(family: str, shards: int, dtype: str, tmp_path: Path) -> None:
    plain = Checkpoint(str(write_model(tmp_path / "plain", family, dtype=dtype)))
    ours = Checkpoint(str(pickled(write_model(tmp_path / "m", family, dtype=dtype), shards)))
    assert list(ours.entries) == list(plain.entries)
    assert ours.nbytes == plain.nbytes
    assert ours.weights_digest == plain.weights_digest


def test_a_merge_of_both_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_model("a", seed=1)
    write_model("b", seed=2)
    recipe = parse_recipe("merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 0.5}\n")
    digest = write_merge(recipe, ModelBank(recipe.references()), Path("first")).digest
    pickled(Path("b"), shards=2)
    assert write_merge(recipe, ModelBank(recipe.references()), Path("second")).digest == digest
    assert Checkpoint("second").weights_digest == digest


def test_safetensors_come_first(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    digest = Checkpoint(str(folder)).weights_digest
    torch.save({"anything": torch.ones(1)}, folder / "pytorch_model.bin")
    assert Checkpoint(str(folder)).weights_digest == digest


def test_tensors_that_share_storage(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "qwen2")
    digest = Checkpoint(str(folder)).weights_digest
    tensors: dict[str, Any] = load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors |= {HEAD: tensors[EMBEDDINGS], name: tensors[name].T.contiguous().T}
    (folder / "model.safetensors").unlink()
    torch.save({n: torch.nn.Parameter(t) for n, t in tensors.items()}, folder / "pytorch_model.bin")
    assert Checkpoint(str(folder)).weights_digest == digest


def test_no_code_is_run(tmp_path: Path) -> None:
    folder = pickled(write_model(tmp_path / "m"))
    torch.save({"x": Marker(str(tmp_path / "ran"))}, folder / "pytorch_model.bin")
    message = refused(folder)
    assert "pytorch_model.bin contains Python objects (" in message
    assert "could run arbitrary code, so it is rejected" in message
    assert "write it with save_pretrained" in message
    assert "\n" not in message
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "contains a list, not tensors by name"),
        ({"model": {"w": torch.ones(1)}, "step": 3}, "contains entries that are not tensors (model, step): a training"),
    ],
)
def test_other_contents(content: object, message: str, tmp_path: Path) -> None:
    folder = pickled(write_model(tmp_path / "m"))
    torch.save(content, folder / "pytorch_model.bin")
    assert message in refused(folder)


def test_the_old_format(tmp_path: Path) -> None:
    folder = pickled(write_model(tmp_path / "m"))
    torch.save({"x": torch.ones(1)}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert "in the format of torch before 1.6, which cannot be memory-mapped" in refused(folder)


def test_a_file_cut_short(tmp_path: Path) -> None:
    path = pickled(write_model(tmp_path / "m")) / "pytorch_model.bin"
    data = path.read_bytes()
    for size in (len(data) - 1, len(data) // 2, 100, 0):
        path.write_bytes(data[:size])
        assert "pytorch_model.bin is damaged or truncated" in refused(tmp_path / "m")


def test_shards(tmp_path: Path) -> None:
    folder = pickled(write_model(tmp_path / "m"), shards=3)
    (folder / "pytorch_model-00002-of-00003.bin").unlink()
    assert "names files that do not exist: pytorch_model-00002-of-00003.bin" in refused(folder)
    (folder / "pytorch_model.bin").touch()
    assert "contains both pytorch_model.bin and pytorch_model.bin.index.json" in refused(folder)


def test_a_configuration_that_describes_other_tensors(tmp_path: Path) -> None:
    folder = pickled(write_model(tmp_path / "m"))
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "intermediate_size": 96}))
    assert "mlp.down_proj.weight: has shape [32, 64], but config.json describes [32, 96]" in refused(folder)


def test_dtypes_that_are_not_merged(tmp_path: Path) -> None:
    folder = pickled(write_model(tmp_path / "m"))
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.complex64)
    torch.save(tensors, folder / "pytorch_model.bin")
    assert "tensor 'model.norm.weight' has dtype torch.complex64, which is not supported" in refused(folder)

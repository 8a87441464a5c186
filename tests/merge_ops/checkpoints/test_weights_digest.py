"""The digest of weights: blind to order and sharding, not to names, dtypes, shapes and bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from tiny_models import write_model

from mergesmith.merge_ops import Checkpoint, WeightsDigest

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([1, 2], dtype=torch.int64), "c": torch.tensor(0.5)}


def digest(tensors: dict[str, torch.Tensor]) -> str:
    found = WeightsDigest()
    for name, tensor in tensors.items():
        found.add(name, tensor)
    return found.hex


def test_it_is_the_documented_one() -> None:
    lines = []
    for name, dtype, shape in (("a", "int64", "[2]"), ("b", "float32", "[2,3]"), ("c", "float32", "[]")):
        lines.append(f"{name} {dtype} {shape} {hashlib.sha256(TENSORS[name].numpy().tobytes()).hexdigest()}")
    assert digest(TENSORS) == hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_order_and_memory_layout_do_not_matter() -> None:
    assert digest(dict(reversed(TENSORS.items()))) == digest(TENSORS)
    transposed = {**TENSORS, "b": TENSORS["b"].t().contiguous().t()}
    assert not transposed["b"].is_contiguous()
    assert digest(transposed) == digest(TENSORS)


@pytest.mark.parametrize(
    "change",
    [
        {"b": TENSORS["b"].double()},
        {"b": TENSORS["b"].view(torch.int32)},
        {"b": TENSORS["b"].reshape(3, 2)},
        {"b": TENSORS["b"] + torch.tensor([[0, 0, 1e-6], [0, 0, 0]])},
        {"c": torch.tensor([0.5])},
        {"d": torch.zeros(0)},
    ],
    ids=["dtype", "dtype with the same bytes", "shape", "one bit", "scalar to vector", "an empty tensor more"],
)
def test_every_difference_shows(change: dict[str, torch.Tensor]) -> None:
    assert digest({**TENSORS, **change}) != digest(TENSORS)


def test_names_and_zero_signs_show() -> None:
    assert digest({"x": TENSORS["b"]}) != digest({"y": TENSORS["b"]})
    assert digest({"x": torch.tensor([0.0])}) != digest({"x": torch.tensor([-0.0])})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.float8_e4m3fn, torch.uint8])
def test_all_dtypes(dtype: torch.dtype) -> None:
    assert len(digest({"x": torch.tensor([0.0, 1.0]).to(dtype), "empty": torch.zeros(0, 3).to(dtype)})) == 64


def test_a_name_comes_once() -> None:
    found = WeightsDigest()
    found.add("x", torch.zeros(1))
    with pytest.raises(ValueError, match="'x' was added twice"):
        found.add("x", torch.zeros(1))


def test_watching_passes_the_stream_on() -> None:
    found = WeightsDigest()
    assert [name for name, _ in found.watch(TENSORS.items())] == list(TENSORS)
    assert found.hex == digest(TENSORS)


def test_sharding_does_not_matter(tmp_path: Path) -> None:
    one, many = write_model(tmp_path / "one"), write_model(tmp_path / "many", shards=5)
    assert Checkpoint(str(one)).weights_digest == Checkpoint(str(many)).weights_digest
    other = write_model(tmp_path / "other", seed=1)
    assert Checkpoint(str(other)).weights_digest != Checkpoint(str(one)).weights_digest

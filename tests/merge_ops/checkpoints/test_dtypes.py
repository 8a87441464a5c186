"""Checkpoints with weights in float8, which are merged, and with quantized weights, which are rejected by that name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import write_model

from mergesmith.errors import UserError
from mergesmith.merge_ops import Checkpoint, CheckpointWarning, ModelBank, parse_recipe, write_merge

Tensors = dict[str, torch.Tensor]
FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]
EXACT = "float8; they are read as bfloat16, which represents them exactly"
MODULE = "model.layers.1.mlp.down_proj"
WEIGHT = f"{MODULE}.weight"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model(name: str, change: Callable[[Tensors], Tensors], *, seed: int, dtype: str = "bfloat16") -> Tensors:
    """Write a model with changed tensors, and return them."""
    file = write_model(name, seed=seed, dtype=dtype) / "model.safetensors"
    tensors = change(load_file(file))
    save_file(tensors, file, metadata={"format": "pt"})
    return tensors


def narrowed(dtype: torch.dtype) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: x.to(dtype) if "proj" in name else x for name, x in tensors.items()}


def merged(header: str) -> Tensors:
    recipe = parse_recipe(f"{header}\nmodels: [{{model: a}}, {{model: b}}]\nparameters: {{weight: 0.5}}\n")
    write_merge(recipe, ModelBank(recipe.references()), Path("out"), overwrite=True)
    return load_file("out/model.safetensors")


def refused(name: str) -> str:
    with pytest.raises(UserError) as caught:
        Checkpoint(name)
    return str(caught.value)


@pytest.mark.parametrize("float8", FLOAT8, ids=str)
def test_float8_is_read_as_bfloat16(float8: torch.dtype, folder: Path) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(float8)
    assert torch.equal(every.to(torch.bfloat16).float().nan_to_num(), every.float().nan_to_num())
    stored = model("a", narrowed(float8), seed=1)
    with pytest.warns(CheckpointWarning, match=EXACT):
        checkpoint = Checkpoint("a")
    assert checkpoint.entries[WEIGHT].dtype == torch.bfloat16
    assert torch.equal(checkpoint.tensor(WEIGHT), stored[WEIGHT].to(torch.bfloat16))
    assert not checkpoint.mapped


@pytest.mark.filterwarnings(f"ignore:.*{EXACT}")
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("method", ["merge_method: linear", "merge_method: ties\nbase_model: b"])
@pytest.mark.parametrize(
    ("extra", "wanted"),
    [
        ("", torch.bfloat16),
        ("dtype: bfloat16", torch.bfloat16),
        ("dtype: float32", torch.float32),
        ("out_dtype: float16", torch.float16),
    ],
)
def test_float8_is_merged(extra: str, wanted: torch.dtype, method: str, both: bool, folder: Path) -> None:
    tensors = [
        model(name, narrowed(torch.float8_e4m3fn if both or not i else torch.bfloat16), seed=i + 1)
        for i, name in enumerate("ab")
    ]
    found = merged(f"{method}\n{extra}")
    assert {x.dtype for x in found.values()} == {wanted}
    config = json.loads(Path("out/config.json").read_text())
    assert config["dtype"] == str(wanted).removeprefix("torch.")
    for name, part in zip("ab", tensors, strict=True):
        save = {n: x.to(torch.bfloat16) for n, x in part.items()}
        save_file(save, f"{name}/model.safetensors", metadata={"format": "pt"})
    plain = merged(f"{method}\n{extra}")
    assert all(torch.equal(x, plain[name]) for name, x in found.items())


def test_float8_with_a_wider_dtype(folder: Path) -> None:
    """Without a dtype in the recipe the output has the widest of the inputs."""
    a = model("a", narrowed(torch.float8_e5m2), seed=1)
    b = model("b", lambda t: t, seed=2, dtype="float32")
    with pytest.warns(CheckpointWarning, match=EXACT):
        found = merged("merge_method: linear")[WEIGHT]
    torch.testing.assert_close(found, (a[WEIGHT].float() + b[WEIGHT]) / 2, rtol=1e-6, atol=1e-7)


def without_weight(tensors: Tensors) -> Tensors:
    return {name: x for name, x in tensors.items() if name != WEIGHT}


def float8_scaled(scale: str) -> Callable[[Tensors], Tensors]:
    return lambda t: {**t, WEIGHT: t[WEIGHT].to(torch.float8_e4m3fn), f"{MODULE}.{scale}": torch.ones(1)}


QUANTIZED: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "float8, blocks": (float8_scaled("weight_scale_inv"), f"{MODULE}.weight_scale_inv"),
    "float8, tensors": (float8_scaled("weight_scale"), f"{MODULE}.weight_scale"),
    "float8, ComfyUI": (float8_scaled("scale_weight"), f"{MODULE}.scale_weight"),
    "GPTQ, AWQ": (
        lambda t: {**without_weight(t), f"{MODULE}.qweight": torch.zeros(8, 32, dtype=torch.int32)},
        f"{MODULE}.qweight",
    ),
    "bitsandbytes, 4 bits": (
        lambda t: {**t, WEIGHT: torch.zeros(1024, 1, dtype=torch.uint8), f"{WEIGHT}.absmax": torch.ones(32)},
        f"{WEIGHT}.absmax",
    ),
    "bitsandbytes, 8 bits": (
        lambda t: {**t, WEIGHT: torch.zeros(32, 64, dtype=torch.int8), f"{MODULE}.SCB": torch.ones(32)},
        f"{MODULE}.SCB",
    ),
    "compressed-tensors": (
        lambda t: {**without_weight(t), f"{MODULE}.weight_packed": torch.zeros(32, 8, dtype=torch.int32)},
        f"{MODULE}.weight_packed",
    ),
    **{
        str(dtype): ((lambda t, dtype=dtype: {**t, WEIGHT: t[WEIGHT].to(dtype)}), f"{WEIGHT} of {str(dtype)[6:]}")
        for dtype in (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool)
    },
}


@pytest.mark.parametrize(("change", "named"), QUANTIZED.values(), ids=QUANTIZED)
def test_quantized_weights_without_a_word_in_the_configuration(
    change: Callable[[Tensors], Tensors], named: str, folder: Path
) -> None:
    model("a", change, seed=1)
    assert refused("a") == (
        f"model 'a': its weights are quantized (its files contain {named}), and codes cannot be averaged; use the "
        "checkpoint that it was quantized from, or write a dequantized one"
    )


@pytest.mark.parametrize(
    ("dtype", "named"),
    [
        (torch.uint16, "U16"),
        (torch.uint32, "U32"),
        (torch.uint64, "U64"),
        (torch.float8_e8m0fnu, "F8_E8M0"),
    ],
)
def test_dtypes_of_no_weights(dtype: torch.dtype, named: str, folder: Path) -> None:
    model("a", lambda t: {**t, WEIGHT: t[WEIGHT].abs().float().to(dtype)}, seed=1)
    assert f"tensor '{WEIGHT}' has dtype {named}, which is not supported; use a checkpoint with weights in" in refused(
        "a"
    )

"""NaN and infinite values are named with their source, and written only when asked for."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import write_family, write_model

from mergesmith.errors import UserError
from mergesmith.merge_ops import Checkpoint, ModelBank, NonfiniteWarning, parse_recipe, write_merge
from mergesmith.merge_ops.numerics.reductions import chunked_sum

NAME = "model.layers.1.mlp.up_proj.weight"
RECIPES = {
    "linear": "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 0.5}\n",
    "slerp": "merge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b}]\nparameters: {t: 0.5}\n",
    "task_arithmetic": "merge_method: task_arithmetic\nbase_model: a\nmodels: [{model: b}]\nparameters: {weight: 1}\n",
    "passthrough": "merge_method: passthrough\nmodels: [{model: b}]\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_family(tmp_path, models=2, layers=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spoil(model: str, *values: float, name: str = NAME) -> None:
    path = Path(model) / "model.safetensors"
    tensors = load_file(path)
    flat = tensors[name].flatten()
    flat[: len(values)] = torch.tensor(values, dtype=flat.dtype)
    save_file({**tensors, name: flat.reshape(tensors[name].shape)}, path, {"format": "pt"})


def write(text: str, *, allow: bool = False) -> None:
    recipe = parse_recipe(text)
    write_merge(recipe, ModelBank(recipe.references()), Path("out"), allow_nonfinite=allow)


def refused(text: str) -> str:
    with pytest.raises(UserError) as caught:
        write(text)
    assert not Path("out").exists()
    assert sorted(path.name for path in Path().iterdir()) == ["a", "b", "base"]
    return str(caught.value)


@pytest.mark.parametrize("text", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_source_is_named(text: str, value: float) -> None:
    spoil("b", value)
    message = refused(text)
    kind = "NaN" if math.isnan(value) else "Inf"
    assert f"{NAME}: 1 " in message
    assert f"the source 'b' contains 1 {kind} in '{NAME}'" in message
    assert "'a' contains" not in message
    assert "--allow-nonfinite" in message


def test_several_tensors_and_sources() -> None:
    spoil("a", math.nan, -math.inf, math.inf)
    spoil("b", math.inf)
    spoil("b", math.nan, name="model.norm.weight")
    message = refused(RECIPES["linear"])
    assert "infinite values (affected tensors: 2)\n" in message
    assert f"'a' contains 1 NaN and 2 Inf in '{NAME}' and 'b' contains 1 Inf in '{NAME}'" in message
    assert "model.norm.weight: 1 NaN in 32 values; the source 'b' contains 1 NaN" in message


def test_values_beyond_the_output_dtype() -> None:
    spoil("b", 1e6)
    message = refused(RECIPES["passthrough"] + "out_dtype: float16\n")
    assert f"{NAME}: 1 Inf in 2048 values; no source does" in message
    assert "the range of torch.float16 (up to 6.55e+04)" in message


def test_they_can_be_allowed() -> None:
    spoil("b", math.nan)
    with pytest.warns(NonfiniteWarning, match="the source 'b' contains 1 NaN"):
        write(RECIPES["linear"], allow=True)
    assert int(torch.isnan(Checkpoint("out").tensor(NAME)).sum()) == 1


def test_many_tensors_are_counted() -> None:
    write_model("b", layers=4, seed=5)
    tensors = load_file("b/model.safetensors")
    save_file({n: torch.full_like(t, math.nan) for n, t in tensors.items()}, "b/model.safetensors", {"format": "pt"})
    message = refused(RECIPES["passthrough"])
    assert "tensors: 39)\n" in message
    assert "and 19 more tensors" in message


def test_sums_of_infinities_are_nan() -> None:
    infinite = torch.zeros(1 << 19)
    infinite[0], infinite[-1] = math.inf, -math.inf
    assert math.isnan(chunked_sum([infinite], lambda x: x))


def test_architectures_are_not_mixed_by_accident() -> None:
    """A Mistral has the tensors of a Llama, and uses them in its own way."""
    import json

    path = Path("b/config.json")
    config = {**json.loads(path.read_text()), "model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    path.write_text(json.dumps(config))
    message = refused(RECIPES["linear"])
    assert "architectures: the models are llama ('a'), mistral ('b'); --allow-different-architectures" in message
    recipe = parse_recipe(RECIPES["linear"])
    write_merge(recipe, ModelBank(recipe.references(), allow_different_architectures=True), Path("out"))
    assert Checkpoint("out").config["model_type"] == "llama"

"""Models of several parts: the language part is merged, the others are merged too or carried over."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import character_tokenizer, weights
from transformers import AutoConfig, AutoModelForImageTextToText

from mergesmith.errors import UserError
from mergesmith.merge_ops import LiveModel, ModelBank, materialize, parse_recipe, write_merge
from mergesmith.merge_ops.architectures.quiet_transformers import quiet_transformers

TEXT = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EYES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 8,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llava": {
        "text_config": {"model_type": "llama", **TEXT},
        "vision_config": {"model_type": "clip_vision_model", **EYES},
        "image_token_id": 47,
    },
    "gemma3": {
        "text_config": {**TEXT, "head_dim": 8, "sliding_window": 8},
        "vision_config": EYES,
        "mm_tokens_per_image": 4,
        "image_token_index": 47,
        "boi_token_index": 46,
        "eoi_token_index": 45,
    },
    "qwen2_vl": {
        "text_config": {
            **TEXT,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
        },
        "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 8},
    },
}
TOKENS = torch.tensor([[1, 7, 4, 20, 33, 9, 2, 11, 12, 13]])
DECODER = """
merge_method: ties
base_model: base
modules:
  text_decoder:
    models:
      - {model: a, parameters: {weight: [0.2, 0.8], density: 0.5}}
      - {model: b}
    parameters: {density: 0.7}
parameters: {weight: 0.5, density: 0.1}
dtype: float32
"""
EVERYTHING = """
merge_method: linear
models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: [1, 3]}}]
"""
STACK = """
merge_method: passthrough
base_model: base
modules:
  text_decoder:
    slices:
      - sources: [{model: base, layer_range: [0, 3]}]
      - sources: [{model: a, layer_range: [1, 4]}]
      - sources: [{model: base, layer_range: [3, 4]}]
  vision_tower: {models: [{model: base}]}
"""


@pytest.fixture(scope="module", params=list(CONFIGS))
def zoo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a family's base, a and b. Not to be written to."""
    folder = tmp_path_factory.mktemp(request.param)
    write(request.param, folder)
    return folder


@pytest.fixture(autouse=True)
def in_zoo(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(zoo)


def write(family: str, folder: Path) -> None:
    """Write base, a and b into a folder."""
    with quiet_transformers():
        model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(family, **CONFIGS[family]))
        for seed, name in enumerate(("base", "a", "b")):
            model.save_pretrained(folder / name)
            character_tokenizer().save_pretrained(folder / name)
            shapes = {n: tuple(t.shape) for n, t in load_file(folder / name / "model.safetensors").items()}
            values = {n: torch.from_numpy(weights(n, shape, seed=seed, base_seed=9)) for n, shape in shapes.items()}
            save_file(values, folder / name / "model.safetensors", metadata={"format": "pt"})


def is_text(name: str) -> bool:
    return not any(part in name for part in ("vision", "visual", "projector"))


@torch.no_grad()
@pytest.mark.parametrize("text", [DECODER, EVERYTHING, STACK], ids=["decoder", "everything", "stack"])
def test_written_loaded_and_live_are_one_model(text: str, tmp_path: Path) -> None:
    recipe = parse_recipe(text)
    assert parse_recipe(recipe.to_yaml()) == recipe
    bank = ModelBank(recipe.references())
    live = LiveModel(bank)
    live.load(recipe)
    write_merge(recipe, bank, tmp_path / "out")
    with quiet_transformers():
        again, told = cast(Any, AutoModelForImageTextToText).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(told.values()), told
    ours, theirs = live.model.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert torch.equal(live.model(TOKENS).logits, again.eval()(TOKENS).logits)
    assert again.config.get_text_config().num_hidden_layers == (7 if text is STACK else 4)


def test_the_decoder_is_merged_and_the_rest_is_the_bases() -> None:
    recipe = parse_recipe(DECODER)
    bank = ModelBank(recipe.references())
    found = dict(materialize(recipe, bank))
    base = load_file("base/model.safetensors")
    for name, tensor in found.items():
        assert torch.equal(tensor, base[name]) == (not is_text(name)), name


def test_parameters_of_a_module_count_before_those_above() -> None:
    """b's density is the module's, its weight the top's; a's are its own."""
    recipe = parse_recipe(DECODER)
    plain = DECODER.replace("    parameters: {density: 0.7}\n", "").replace(
        "{model: b}", "{model: b, parameters: {density: 0.7}}"
    )
    bank = ModelBank(recipe.references())
    found, expected = (dict(materialize(r, bank)) for r in (recipe, parse_recipe(plain)))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_vision_model_is_mergekits_other_name_of_the_vision_tower() -> None:
    bank = ModelBank(("base", "a", "b"))
    found, expected = (
        dict(materialize(parse_recipe(STACK.replace("vision_tower", part)), bank))
        for part in ("vision_model", "vision_tower")
    )
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    both = STACK + "  vision_model: {models: [{model: base}]}"
    with pytest.raises(UserError, match="'vision_model' is another name of a part that is listed already"):
        list(materialize(parse_recipe(both), bank))


def test_what_is_refused() -> None:
    bank = ModelBank(("base", "a", "b"))
    with pytest.raises(UserError, match=r"unknown part 'text_decodr'. Did you mean 'text_decoder'"):
        list(materialize(parse_recipe(DECODER.replace("text_decoder", "text_decodr")), bank))
    flat = "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [0, 2]}]}]"
    with pytest.raises(UserError, match=r"has several parts .*put slices under modules"):
        list(materialize(parse_recipe(flat), bank))
    with pytest.raises(UserError, match="exactly one of the keys models, slices and modules"):
        parse_recipe(DECODER + "models: [{model: a}]")

"""Models that are not language models: merged as the class that config.json names, or rejected by that name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import weights, write_model

from mergesmith.errors import UserError
from mergesmith.merge_ops import ModelBank, parse_recipe, write_merge
from mergesmith.merge_ops.architectures.quiet_transformers import quiet_transformers

pytestmark = pytest.mark.filterwarnings("ignore:model .* has no tokenizer files")  # these checkpoints need none

SIZES = {"vocab_size": 48, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
BERT = {key: value for key, value in SIZES.items() if key != "num_key_value_heads"}
HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
TWO_STACKS = {"vocab_size": 48, "d_model": 32, "encoder_layers": 3, "decoder_layers": 2, **HEADS}
TWO_STACKS |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
T5 = {"vocab_size": 48, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_heads": 4, "num_layers": 3, "num_decoder_layers": 2}
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "LlamaForSequenceClassification": ("llama", {**SIZES, "num_labels": 1}),
    "Qwen2ForTokenClassification": ("qwen2", {**SIZES, "num_labels": 5}),
    "MistralModel": ("mistral", SIZES),
    "BertForMaskedLM": ("bert", BERT),
    "BertForSequenceClassification": ("bert", {**BERT, "num_labels": 3}),
    "BertModel": ("bert", BERT),
    "RobertaForTokenClassification": ("roberta", {**BERT, "num_labels": 5}),
    "BartForConditionalGeneration": ("bart", {**TWO_STACKS, **IDS, "forced_eos_token_id": 2}),
    "T5ForConditionalGeneration": ("t5", {**T5, **IDS}),
    "WhisperForConditionalGeneration": (
        "whisper",
        {**TWO_STACKS, **IDS, "num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 16},
    ),
}
MERGE = """
merge_method: linear
models:
  - {model: a, parameters: {weight: 0.25}}
  - {model: b, parameters: {weight: 0.75}}
dtype: float32
"""


def write(folder: Path, class_name: str, **changes: Any) -> None:
    """Write the models a and b of a class, with weights that differ in every tensor."""
    model_type, settings = CLASSES[class_name]
    config = transformers.AutoConfig.for_model(model_type, **settings, **changes)
    with quiet_transformers():
        model: Any = getattr(transformers, class_name)(config)
        for seed, name in enumerate("ab"):
            model.save_pretrained(folder / name)
            shapes = {n: tuple(t.shape) for n, t in load_file(folder / name / "model.safetensors").items()}
            values = {n: torch.from_numpy(weights(n, shape, seed=seed)) for n, shape in shapes.items()}
            save_file(values, folder / name / "model.safetensors", metadata={"format": "pt"})


def merged(folder: Path, text: str = MERGE) -> dict[str, torch.Tensor]:
    recipe = parse_recipe(text)
    write_merge(recipe, ModelBank(recipe.references(), roots=(folder,)), folder / "out", write_card=False)
    return load_file(folder / "out" / "model.safetensors")


@pytest.mark.parametrize("class_name", CLASSES)
def test_the_class_that_config_json_names_is_merged_whole(tmp_path: Path, class_name: str) -> None:
    write(tmp_path, class_name)
    one, other, out = (
        load_file(tmp_path / "a/model.safetensors"),
        load_file(tmp_path / "b/model.safetensors"),
        merged(tmp_path),
    )
    assert out.keys() == one.keys()
    for name, tensor in out.items():
        torch.testing.assert_close(tensor, 0.25 * one[name] + 0.75 * other[name], rtol=1e-6, atol=1e-6)
    with quiet_transformers():
        loader: Any = getattr(transformers, class_name)
        _, info = loader.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_modules_of_an_encoder_and_decoder_have_mergekits_names(tmp_path: Path) -> None:
    write(tmp_path, "T5ForConditionalGeneration")
    models = "{models: [{model: a, parameters: {weight: 0.25}}, {model: b, parameters: {weight: 0.75}}]}"
    lines = [f"  {part}: {models}" for part in ("decoder", "encoder", "shared")]
    one, two = merged(tmp_path), merged_again(tmp_path, "\n".join(["merge_method: linear", "modules:", *lines]))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def merged_again(folder: Path, text: str) -> dict[str, torch.Tensor]:
    (folder / "out").rename(folder / "first")
    return merged(folder, text)


def test_a_part_beside_the_decoder_keeps_its_depth(tmp_path: Path) -> None:
    write(tmp_path, "T5ForConditionalGeneration")
    text = """
merge_method: passthrough
base_model: a
modules: {encoder: {slices: [{sources: [{model: a, layer_range: [0, 2]}]}]}}
"""
    with pytest.raises(UserError, match=r"modules\.encoder: its slices have 2 layers, .* take 3 layers"):
        merged(tmp_path, text)


def test_a_class_that_transformers_lacks_is_rejected_by_name(tmp_path: Path) -> None:
    write(tmp_path, "LlamaForSequenceClassification")
    path = tmp_path / "a" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": ["LlamaForProcessReward"]}))
    with pytest.raises(UserError, match=r"model 'a': its class is LlamaForProcessReward .*--trust-remote-code"):
        merged(tmp_path)


def test_models_of_two_classes_are_rejected_by_name(tmp_path: Path) -> None:
    write(tmp_path, "LlamaForSequenceClassification")
    write_model(tmp_path / "a", layers=3, num_key_value_heads=2)
    with pytest.raises(
        UserError, match=r"LlamaForCausalLM \('a'\), LlamaForSequenceClassification \('b'\), which differ"
    ):
        merged(tmp_path)


def test_the_body_of_a_tied_language_model_is_a_language_model(tmp_path: Path) -> None:
    write(tmp_path, "MistralModel", tie_word_embeddings=True)
    bank = ModelBank(("a",), roots=(tmp_path,))
    assert bank["a"].architecture.is_language_model
    assert merged(tmp_path).keys() == {f"model.{n}" for n in load_file(tmp_path / "a/model.safetensors")}

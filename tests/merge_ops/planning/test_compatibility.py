"""Sources that do not fit each other: everything that differs stands in one message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import write_model

from mergesmith.errors import UserError
from mergesmith.merge_ops import MergeError, ModelBank, VocabularyWarning, parse_recipe, plan_merge
from mergesmith.merge_ops.merging.merge_tensors import merge_task

LINEAR = "merge_method: linear\nmodels: [{model: one}, {model: two}]\nparameters: {weight: 1}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(text: str, *more: str) -> None:
    recipe = parse_recipe(text)
    plan_merge(recipe, ModelBank((*recipe.references(), *more)))


def refused(text: str, *more: str) -> str:
    with pytest.raises(UserError, match="the models do not fit each other") as caught:
        plan(text, *more)
    return str(caught.value)


def edit_tokenizer(path: str, **changes: Any) -> None:
    file = Path(path) / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_everything_is_told_at_once() -> None:
    write_model("one")
    write_model("two", layers=3, vocab=50)
    message = refused(LINEAR)
    assert "3 faults" in message
    assert "layers: the models have 4 ('one'), 3 ('two'); take equal runs of layers with slices" in message
    assert "vocabulary: the models have 48 ('one'), 50 ('two') tokens" in message
    assert "tokenizer: that of 'two' gives other tokens than that of 'one'" in message


def test_shapes() -> None:
    write_model("one")
    write_model("two", intermediate_size=96)
    message = refused(LINEAR)
    assert "shapes: model.layers.0.mlp.gate_proj.weight is [64, 32] in 'one', [96, 32] in 'two'; " in message
    assert "and 4 more" in message


@pytest.mark.parametrize("biased", ["one", "two"])
def test_biases_are_not_dropped(biased: str) -> None:
    for name in ("one", "two"):
        write_model(name, attention_bias=name == biased)
    message = refused(LINEAR)
    assert "model.layers.0.self_attn.k_proj.bias" in message
    assert ("lacks" if biased == "one" else "would lack") in message


def test_other_models_of_the_bank_do_not_matter() -> None:
    for name in ("one", "two"):
        write_model(name)
    write_model("third", tie_word_embeddings=True, layers=2)
    recipe = parse_recipe(LINEAR)
    plan_merge(recipe, ModelBank(("third", *recipe.references())))


def test_layers_beyond_the_last() -> None:
    write_model("one")
    text = "merge_method: passthrough\nslices: [{sources: [{model: one, layer_range: [2, 5]}]}]"
    assert "slices[0]: layer_range [2, 5] of 'one' needs more than its 4 layers" in refused(text)


def test_layers_of_a_deeper_model_can_be_stacked() -> None:
    """The second slice takes layers that the first model, whose configuration is taken over, does not have."""
    write_model("one", layers=2)
    write_model("two", layers=4)
    text = """
        merge_method: passthrough
        slices:
          - sources: [{model: one, layer_range: [0, 2]}]
          - sources: [{model: two, layer_range: [2, 4]}]
        """
    recipe = parse_recipe(text)
    made = plan_merge(recipe, ModelBank(recipe.references()))
    inputs = {task.name: task.inputs for task in made.tasks}
    assert inputs["model.layers.3.mlp.up_proj.weight"] == (("two", "model.layers.3.mlp.up_proj.weight"),)
    assert len(made.tasks) == 4 * 9 + 3
    assert made.layers == (("one", 0), ("one", 1), ("two", 2), ("two", 3))


def test_only_the_layers_that_are_used_must_fit() -> None:
    for name in ("one", "two"):
        write_model(name)
    path = Path("two/model.safetensors")
    tensors = {n: t.clone() for n, t in load_file(path).items()}
    save_file({**tensors, "lm_head.weight": tensors["lm_head.weight"] + 1}, path)
    plan("merge_method: passthrough\nslices: [{sources: [{model: two, layer_range: [1, 2]}]}]")


def test_vocabularies_by_default_values() -> None:
    """A configuration that leaves out vocab_size has its family's default, not none."""
    write_model("one")
    write_model("two")
    config = json.loads(Path("two/config.json").read_text())
    del config["vocab_size"]
    Path("two/config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config\.json describes"):  # 32000 tokens against the 48 of its files
        plan(LINEAR)


def test_a_tokenizer_written_by_another_version_is_the_same() -> None:
    for name in ("one", "two"):
        write_model(name)
    content = json.loads(Path("two/tokenizer.json").read_text())
    edit_tokenizer("two", model={**content["model"], "ignore_merges": False}, truncation=None, padding=None)
    plan(LINEAR)


def test_tokenizers_that_swap_two_tokens_differ() -> None:
    for name in ("one", "two"):
        write_model(name)
    model = json.loads(Path("two/tokenizer.json").read_text())["model"]
    vocab = dict(model["vocab"])
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    edit_tokenizer("two", model={**model, "vocab": vocab})
    assert "tokenizer: that of 'two' gives other tokens than that of 'one'" in refused(LINEAR)


def test_an_added_token_shows() -> None:
    for name in ("one", "two"):
        write_model(name)
    added = json.loads(Path("two/tokenizer.json").read_text())["added_tokens"]
    edit_tokenizer("two", added_tokens=[*added, {**added[0], "id": 47, "content": "<|im_end|>"}])
    assert "tokenizer" in refused(LINEAR)


def test_tokenizers_are_compared_in_files_of_one_kind() -> None:
    for name in ("one", "two"):
        write_model(name)
    Path("two/tokenizer.json").rename("two/tokenizer.model")
    plan(LINEAR)  # nothing that both have, so nothing is known
    Path("one/tokenizer.model").write_bytes(Path("two/tokenizer.model").read_bytes())
    plan(LINEAR)
    Path("one/tokenizer.model").write_bytes(b"other")
    assert "tokenizer" in refused(LINEAR)


def test_vocabularies_that_differ_need_a_source() -> None:
    for name, vocab in (("one", 48), ("two", 50), ("third", 52)):
        write_model(name, vocab=vocab)
    fix = "give tokenizer_source (union, base or a model) to merge the vocabularies"
    message = refused(LINEAR)
    assert f"48 ('one'), 50 ('two') tokens; {fix}" in message
    assert f"that of 'two' gives other tokens than that of 'one'; {fix}" in message
    for source in ("union", "base", "two"):
        plan(LINEAR + f"tokenizer_source: {source}")
    with pytest.warns(VocabularyWarning, match="2 tokens are in none of the merged models"):
        plan(LINEAR + "tokenizer_source: third")


def test_buffers_that_differ_are_refused_and_equal_ones_are_copied() -> None:
    for name in ("one", "two"):
        write_model(name)
        path = Path(name) / "model.safetensors"
        tensors = {n: t.clone() for n, t in load_file(path).items()}
        save_file({**tensors, "model.norm.weight": torch.arange(32)}, path)
    recipe = parse_recipe(LINEAR)
    bank = ModelBank(recipe.references())
    made = plan_merge(recipe, bank)
    task = next(task for task in made.tasks if task.name == "model.norm.weight")
    assert torch.equal(merge_task(made, task, bank), torch.arange(32))
    path = Path("two/model.safetensors")
    tensors = {n: t.clone() for n, t in load_file(path).items()}
    save_file({**tensors, "model.norm.weight": torch.arange(32) + 1}, path)
    with pytest.raises(MergeError, match=r"tensor 'model\.norm\.weight' is not of a floating-point dtype and differs"):
        merge_task(made, task, ModelBank(recipe.references()))

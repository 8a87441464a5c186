"""Written checkpoints: shards, index, configuration, companions; complete under their name or not there at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from tiny_models import write_family, write_model

from mergesmith.errors import UserError
from mergesmith.merge_ops import (
    Checkpoint,
    CheckpointWarning,
    ModelBank,
    Recipe,
    Written,
    load_tokenizer,
    materialize,
    parse_recipe,
    read_recipe,
    write_merge,
)
from mergesmith.merge_ops.output.write_checkpoint import parse_size

LINEAR = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 0.5}\n"
STACK = """
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 4]}]
  - sources: [{model: b, layer_range: [3, 4]}]
"""


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models of their own in the working directory, which may be written to."""
    write_family(tmp_path, models=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, out: str | Path = "out", *, max_shard_size: str = "5GB") -> Written:
    recipe = parse_recipe(text)
    bank = ModelBank(recipe.references())
    return write_merge(recipe, bank, Path(out), max_shard_size=max_shard_size)


def config(folder: str | Path = "out") -> dict:
    return json.loads((Path(folder) / "config.json").read_text())


def test_one_file(zoo: Path) -> None:
    written = write(LINEAR)
    assert written.folder == Path("out")
    companions = "README.md chat_template.jinja config.json generation_config.json mergekit_config.yml"
    files = f"{companions} model.safetensors tokenizer.json tokenizer_config.json"
    assert sorted(path.name for path in Path("out").iterdir()) == files.split()
    with safe_open("out/model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    checkpoint = Checkpoint("./out")
    assert checkpoint.weights_digest == written.digest
    recipe = parse_recipe(LINEAR)
    for name, tensor in materialize(recipe, ModelBank(recipe.references())):
        assert torch.equal(checkpoint.tensor(name), tensor)


@pytest.mark.parametrize("limit", ["8KB", "20 kb", "1B", "0.05MB"])
def test_shards(zoo: Path, limit: str) -> None:
    whole = write(LINEAR, "whole").digest
    written = write(LINEAR, max_shard_size=limit)
    assert written.digest == whole == Checkpoint("./out").weights_digest
    index = json.loads(Path("out/model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert files == sorted(path.name for path in Path("out").glob("*.safetensors"))
    assert files == [f"model-{i + 1:05d}-of-{len(files):05d}.safetensors" for i in range(len(files))]
    assert not Path("out/model.safetensors").exists()
    total = 0
    for name in files:
        with safe_open(Path("out") / name, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        assert set(tensors) == {key for key, value in index["weight_map"].items() if value == name}
        size = sum(tensor.nbytes for tensor in tensors.values())
        assert size <= parse_size(limit) or len(tensors) == 1
        total += size
    assert index["metadata"]["total_size"] == total


def test_sizes() -> None:
    assert [parse_size(t) for t in ("5GB", "200MB", "1GiB", "10", "1.5 kb")] == [
        5 * 10**9,
        2 * 10**8,
        1 << 30,
        10,
        1500,
    ]
    for text in ("", "GB", "-1GB", "0GB", "5 parsecs", "1e3"):
        with pytest.raises(UserError, match="max shard size must be a size such as 5GB"):
            parse_size(text)


def test_the_configuration_of_a_stack(zoo: Path) -> None:
    write(STACK + "dtype: bfloat16\n")
    assert config()["num_hidden_layers"] == 5
    assert config()["dtype"] == "bfloat16"
    assert {k: v for k, v in config().items() if k not in ("num_hidden_layers", "dtype")} == {
        k: v for k, v in config("a").items() if k not in ("num_hidden_layers", "dtype")
    }
    assert len(Checkpoint("./out").entries) == 3 + 5 * 9


def test_the_configuration_key_of_the_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_family(tmp_path, "gpt2", models=2)
    monkeypatch.chdir(tmp_path)
    write(STACK)
    assert config()["n_layer"] == 5
    assert "num_hidden_layers" not in config()


def test_lists_with_one_entry_per_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = ["full_attention", "full_attention", "sliding_attention", "sliding_attention"]
    for name in ("a", "b"):
        write_model(tmp_path / name, "qwen2", layer_types=kinds, use_sliding_window=True, max_window_layers=2)
    write(STACK)
    assert config()["layer_types"] == [*kinds, kinds[3]]
    assert Checkpoint("./out").architecture.num_layers == 5


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [("", "float32"), ("dtype: float16", "float16"), ("dtype: float32\nout_dtype: bfloat16", "bfloat16")],
)
def test_the_dtype_in_the_configuration(zoo: Path, dtypes: str, expected: str) -> None:
    path = Path("a/config.json")
    old = {k: v for k, v in config("a").items() if k != "dtype"}
    path.write_text(json.dumps({**old, "torch_dtype": "float32"}))
    write(LINEAR + dtypes)
    assert config()["dtype"] == expected
    assert "torch_dtype" not in config()
    assert {entry.dtype for entry in Checkpoint("./out").entries.values()} == {getattr(torch, expected)}


def test_companions_come_from_the_donor(zoo: Path) -> None:
    Path("a/generation_config.json").write_text('{"top_k": 7}')
    Path("b/generation_config.json").write_text('{"top_k": 8}')
    Path("b/tokenizer_config.json").write_text('{"b": 1}')
    write(LINEAR + "tokenizer_source: b\n")
    assert json.loads(Path("out/generation_config.json").read_text()) == {"top_k": 7}
    assert Path("out/tokenizer_config.json").read_text() == '{"b": 1}'


def test_the_tokenizer_loads(zoo: Path) -> None:
    write(LINEAR)
    one, other = load_tokenizer(Path("a"), "a"), load_tokenizer(Path("out"), "out")
    assert one("some text 12").input_ids == other("some text 12").input_ids
    assert one.chat_template == other.chat_template
    Path("out/tokenizer_config.json").write_text("{")
    with pytest.raises(UserError, match="model 'out': its tokenizer cannot be loaded"):
        load_tokenizer(Path("out"), "out")
    Path("out/tokenizer_config.json").unlink()
    with pytest.raises(UserError, match=r"model 'out': no tokenizer_config\.json"):
        load_tokenizer(Path("out"), "out")


def test_a_chat_template_of_the_recipe(zoo: Path) -> None:
    inside = json.loads(Path("a/tokenizer_config.json").read_text())
    Path("a/tokenizer_config.json").write_text(json.dumps({**inside, "chat_template": "{{ 'old' }}"}))
    write(LINEAR + "chat_template: \"{{ 'new' }}\"\n")
    assert load_tokenizer(Path("out"), "out").chat_template == "{{ 'new' }}"


def test_the_usual_chat_template(zoo: Path) -> None:
    """auto takes what most models have, wherever it lies in their folders."""
    Path("a/chat_template.jinja").write_text("{{ 'rare' }}")
    Path("base/chat_template.jinja").unlink()
    inside = json.loads(Path("base/tokenizer_config.json").read_text())
    Path("base/tokenizer_config.json").write_text(json.dumps({**inside, "chat_template": "{{ 'usual' }}"}))
    Path("b/chat_template.jinja").write_text("{{ 'usual' }}")
    write(LINEAR.replace("{model: b}", "{model: b}, {model: base}") + "chat_template: auto\n")
    assert load_tokenizer(Path("out"), "out").chat_template == "{{ 'usual' }}"


def test_no_chat_template_at_all(zoo: Path) -> None:
    for name in ("a", "b"):
        Path(name, "chat_template.jinja").unlink()
    with pytest.warns(CheckpointWarning, match="no model has a chat template"):
        write(LINEAR + "chat_template: auto\n")
    assert not Path("out/chat_template.jinja").exists()


def test_the_recipe_file_makes_the_same_model_from_every_folder(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = write(LINEAR).digest
    recipe = read_recipe("out/mergekit_config.yml")
    assert recipe == parse_recipe(LINEAR).renamed({name: str((zoo / name).resolve()) for name in "ab"})
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert write_merge(recipe, ModelBank(recipe.references()), Path("again")).digest == digest


def test_the_model_card(zoo: Path) -> None:
    digest = write(LINEAR + "base_model: a\n").digest
    card = Path("out/README.md").read_text()
    meta = yaml.safe_load(card.split("---")[1])
    assert meta == {"library_name": "transformers", "tags": ["merge", "mergekit", "mergesmith"]}
    assert digest in card
    assert "over the base model `a`" in card
    assert "* `b`\n" in card
    assert parse_recipe(card.split("```yaml\n")[1].split("```")[0]) == parse_recipe(LINEAR + "base_model: a\n")


def test_the_model_card_names_models_of_the_hub(zoo: Path) -> None:
    Path("owner").mkdir()
    Path("a").rename("owner/a")
    write(LINEAR.replace("model: a", "model: owner/a"))
    assert yaml.safe_load(Path("out/README.md").read_text().split("---")[1])["base_model"] == ["owner/a"]


def test_equal_recipes_write_equal_files(zoo: Path) -> None:
    for name in ("one", "two"):
        write(LINEAR, name)
    for path in Path("one").iterdir():
        assert path.read_bytes() == (Path("two") / path.name).read_bytes(), path.name


def test_facts_reach_the_recipe_file(zoo: Path) -> None:
    recipe: Recipe = replace(parse_recipe(LINEAR), facts={"score": 0.5}, seed=3)
    write_merge(recipe, ModelBank(recipe.references()), Path("out"))
    assert yaml.safe_load(Path("out/mergekit_config.yml").read_text())["mergesmith"] == {
        "schema_version": 1,
        "seed": 3,
        "score": 0.5,
    }

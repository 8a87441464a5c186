"""Every example runs."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from checkout import ROOT
from tiny_models import write_family
from tiny_run import write_run
from transformers import AutoModelForCausalLM

from mergesmith.merge_ops import ModelBank, read_recipe, write_merge

EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize("path", sorted((EXAMPLES / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::mergesmith.merge_ops.recipes.reader.RecipeWarning")
def test_recipe_merges(path: Path, in_llama: Path, tmp_path: Path) -> None:
    recipe = read_recipe(path)
    write_merge(recipe, ModelBank(recipe.references()), tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.config.num_hidden_layers == (5 if "stack" in path.stem else 4)
    assert str(model.dtype) == f"torch.{recipe.dtype}"


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    write_family(folder, "llama", shards=3)
    return folder


@pytest.mark.parametrize("path", sorted((EXAMPLES / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::mergesmith.merge_ops.recipes.reader.RecipeWarning")
def test_recipe_gives_the_same_from_shards_and_in_shards(
    path: Path, llama: Path, sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_recipe(path)
    digests = []
    for folder, size in ((llama, "5GB"), (sharded, "30KB")):
        monkeypatch.chdir(folder)
        written = write_merge(recipe, ModelBank(recipe.references()), tmp_path / folder.name, max_shard_size=size)
        digests.append(written.digest)
    assert digests[0] == digests[1]
    assert (tmp_path / sharded.name / "model.safetensors.index.json").is_file()


def test_merge_in_python(
    in_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["merge_in_python.py", "base", "a", "b", str(tmp_path / "out")])
    runpy.run_path(str(EXAMPLES / "merge_in_python.py"), run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    assert len({line.split()[1] for line in printed[:3]}) == 3
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_search_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    search = write_run(tmp_path, search={"sampler": "random", "trials": 2})
    monkeypatch.setattr(sys, "argv", ["search_in_python.py", str(search), str(tmp_path / "out")])
    runpy.run_path(str(EXAMPLES / "search_in_python.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "The winner is" in printed and "items won" in printed and "reproduced bit for bit" in printed
    assert (tmp_path / "out" / "model.safetensors").is_file()

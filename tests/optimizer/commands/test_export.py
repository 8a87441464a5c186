"""A trial as a task vector: merged weights, and a recipe over them that stock mergekit runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from command_line import Command
from tiny_run import write_search

from mergesmith.merge_ops import METHODS, ModelBank, materialize, read_recipe


@pytest.fixture
def finished(run_folder: Path, command: Command) -> Path:
    """A folder with a finished run of a method that mergekit lacks."""
    space = {"methods": ["tsv"]}
    assert command("search", write_search(run_folder, space=space, search={"trials": 2})).code == 0
    return run_folder


def test_a_task_vector_gives_the_same_weights(finished: Path, command: Command) -> None:
    run, out = finished / "run", finished / "vector"
    number = next(n for n in range(30) if "merge_method: tsv" in command("export", run, "--trial", n).out)
    text = command("export", run, "--trial", number).out
    note = yaml.safe_load(text)["mergesmith"]["mergekit"]
    assert note.startswith("not for stock mergekit: tsv is not a method of mergekit")
    (finished / "tsv.yaml").write_text(text)
    assert command("export", run, out, "--as", "task-vector", "--trial", number).code == 0
    own, plain = read_recipe(finished / "tsv.yaml"), read_recipe(out / "recipe.yaml")
    assert METHODS[plain.merge_method].mergekit
    assert plain.beyond_mergekit is None
    assert (
        yaml.safe_load((out / "recipe.yaml").read_text())["mergesmith"]["task_vector_of"]["recipe"]["merge_method"]
        == "tsv"
    )
    expected = dict(materialize(own, ModelBank(own.references())))
    for name, tensor in materialize(plain, ModelBank(plain.references())):
        assert tensor.dtype == expected[name].dtype
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)


def test_what_has_no_task_vector_is_refused(finished: Path, command: Command) -> None:
    run = finished / "run"
    outcome = command("export", run, "--as", "task-vector")
    assert outcome.code == 2
    assert "name it" in outcome.err
    # Trial 0 is the base itself, by passthrough.
    outcome = command("export", run, finished / "v", "--as", "task-vector", "--trial", 0)
    assert outcome.code == 2
    assert "passthrough without a base_model has no task vector" in outcome.err
    (finished / "full").mkdir()
    (finished / "full" / "x").write_text("")
    number = next(n for n in range(30) if "merge_method: tsv" in command("export", run, "--trial", n).out)
    outcome = command("export", run, finished / "full", "--as", "task-vector", "--trial", number)
    assert outcome.code == 2
    assert "is not empty" in outcome.err

"""The commands beside `search`, and what users get wrong: one message, exit code 2, no traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Command, Outcome
from tiny_models import write_model
from tiny_run import write_search

from mergesmith.merge_ops import read_recipe


def refused(outcome: Outcome, *parts: str) -> None:
    """One message that says all of `parts`, nothing else on standard error, exit code 2."""
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("mergesmith: ")
    assert "Traceback" not in outcome.err
    for part in parts:
        assert part in outcome.err, outcome.err


@pytest.fixture
def finished(run_folder: Path, command: Command) -> Path:
    """A folder with a finished run in it."""
    assert command("search", write_search(run_folder, search={"trials": 3})).code == 0
    return run_folder


def test_merge_verify_export(finished: Path, command: Command) -> None:
    best = finished / "run" / "best.yaml"
    merged = command("merge", best, finished / "out", "--max-shard-size", "20KB")
    assert merged.code == 0
    assert "reproduced bit for bit" in merged.out
    assert (finished / "out" / "model.safetensors.index.json").is_file()
    verified = command("verify", best)
    assert verified.code == 0, verified
    assert "0 of" in verified.out
    assert "verified" in verified.out
    exported = command("export", finished / "run", "--trial", 11, "--output", finished / "t11.yaml")
    assert exported.code == 0
    assert command("merge", finished / "t11.yaml", finished / "t11").code == 0
    assert command("export", finished / "run").out == best.read_text()


def test_verify_finds_another_recipe_out(finished: Path, command: Command) -> None:
    best = finished / "run" / "best.yaml"
    document = yaml.safe_load(best.read_text())
    other = finished / "other.yaml"
    document["mergesmith"]["weights_digest"] = "0" * 64
    document["mergesmith"]["scores"]["report"]["tasks"]["mc"]["value"] = 0.123
    other.write_text(yaml.safe_dump(document))
    outcome = command("verify", other)
    assert outcome.code == 1
    assert "NOT the recorded weights" in outcome.out
    assert "NOT confirmed" in outcome.err
    merged = command("merge", other, finished / "out")
    assert merged.code == 1
    assert (finished / "out" / "config.json").is_file()  # the merge itself is there


def test_verify_notices_changed_source_weights(finished: Path, command: Command, tmp_path: Path) -> None:
    best = finished / "run" / "best.yaml"
    recipe = read_recipe(best)
    changed = recipe.references()[-1]
    copy = write_model(finished / "changed", "llama", layers=2, seed=99)
    Path(changed).unlink() if Path(changed).is_symlink() else None
    text = best.read_text().replace(changed, str(copy))
    (finished / "moved.yaml").write_text(text)
    outcome = command("merge", finished / "moved.yaml", finished / "out")
    assert outcome.code == 1
    assert f"the weights of '{copy}' are not the recorded ones" in outcome.out


def test_a_wrong_option_is_reported_in_plain_words(run_folder: Path, command: Command) -> None:
    outcome = command("search", write_search(run_folder), "--control", "foo")
    assert outcome.code == 2
    assert "Invalid value for '--control': 'foo' is not one of 'random'." in outcome.err
    assert command("serch").code == 2
    assert command("--help").code == 0


def test_plan(run_folder: Path, command: Command) -> None:
    outcome = command("plan", write_search(run_folder))
    assert outcome.code == 0
    for part in (
        "Search space",
        "task_arithmetic",
        "Scored first",
        "uniform",
        "Device: cpu",
        "Time: about",
        "10 baselines",
        "4 candidates",
        "the verdict",
    ):
        assert part in outcome.out
    assert not (run_folder / "run").exists()


def test_eval_of_model_and_recipe(finished: Path, command: Command) -> None:
    config = finished / "search.yaml"
    model = command("eval", finished / "a", "--config", config)
    recipe = command("eval", finished / "run" / "best.yaml", "--config", config, "--part", "select")
    assert model.code == recipe.code == 0
    assert "Scores on the search items" in model.out
    assert "Scores on the select items" in recipe.out
    trial = json.loads((finished / "run" / "trials.jsonl").read_text().splitlines()[1])  # parent a
    assert f"{trial['scores']['mc']['value']:.3f}" in model.out


def test_methods(command: Command) -> None:
    outcome = command("methods")
    assert outcome.code == 0
    assert "dare_ties" in outcome.out
    assert "density" in outcome.out


SEARCH_FAULTS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"models": ["./a", "./nowhere"]}, ("'./nowhere': no such folder",)),
    ({"models": ["./a", "./empty"]}, ("no config.json",)),
    ({"models": ["./a", "./deep"]}, ("do not fit", "layers", "'./deep'")),
    ({"models": ["./a", "./wide"]}, ("vocabulary", "'./wide'")),
    ({"models": ["./a", "./cut"]}, ("damaged or truncated",)),
    ({"trails": 3}, ("unknown key 'trails'",)),
    ({"search": {"trails": 3}}, ("search.trails: unknown key 'trails'. Did you mean 'trials'",)),
    ({"search": {"sampler": "tpee"}}, ("unknown sampler 'tpee'. Did you mean 'tpe'",)),
    ({"space": {"methods": ["tise"]}}, ("unknown merge method 'tise'. Did you mean 'ties'",)),
    ({"space": {"methods": {"ties": {"density": [0.5, 1.5]}}}}, ("must lie in [0, 1]",)),
    ({"space": {"methods": {"ties": {"densty": 1}}}}, ("unknown parameter 'densty'. Did you mean 'density'",)),
    ({"space": {"filters": ["self_atn"]}}, ("'self_atn' is part of no tensor name", "have the parts self_attn")),
    ({"space": {"filters": ["layers.0-5"]}}, ("'layers.0-5' is part of no tensor name", "without ranges")),
    ({"space": {"filters": ["mlp", "gate_proj"]}}, ("'gate_proj' matches only tensors that earlier filters match",)),
    ({"space": {"filters": ["model.", "head"]}}, ("together they match all tensors", "leave out the last filter")),
    ({"tasks": ["mcc"]}, ("unknown task 'mcc'. Did you mean 'mc'",)),
    ({"tasks": [{"name": "mc", "metric": "acx"}]}, ("metric", "'acx'")),
    ({"tasks": [{"name": "mc", "limit": 30}]}, ("too small for its share",)),
    ({"tasks": [{"name": "own", "python": "./none.py:f"}]}, ("none.py",)),
    ({"tasks": []}, ("tasks",)),
    ({"split": {"search": 0.9}}, ("sum to 1",)),
    ({"chat": {"aply_template": True}}, ("unknown key 'aply_template'. Did you mean 'apply_template'",)),
    ({"baselines": ["nothing.yaml"]}, ("nothing.yaml: cannot be read",)),
    ({"workers": {"device": "cuda:9"}}, ("workers.device",)),
    ({"version": 2}, ("version",)),
]


@pytest.mark.usefixtures("short_index")
@pytest.mark.parametrize(
    ("changes", "parts"), SEARCH_FAULTS, ids=lambda value: value[0] if isinstance(value, tuple) else ""
)
def test_search_refuses(
    changes: dict[str, Any], parts: tuple[str, ...], run_folder: Path, models: Path, command: Command
) -> None:
    (run_folder / "empty").mkdir()
    write_model(run_folder / "deep", "llama", layers=3, seed=1)
    write_model(run_folder / "wide", "llama", layers=2, vocab=50, seed=1)
    shutil.copytree(models / "a", run_folder / "cut")
    weights = run_folder / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    outcome = command("search", write_search(run_folder, **changes))
    refused(outcome, *parts)
    assert not (run_folder / "run").exists()  # what never began leaves nothing


def test_search_refuses_files_that_are_none(run_folder: Path, command: Command) -> None:
    refused(command("search", run_folder / "none.yaml"), "cannot be read")
    (run_folder / "list.yaml").write_text("- 1\n")
    refused(command("search", run_folder / "list.yaml"), "must be a mapping")
    (run_folder / "broken.yaml").write_text("a: [1\n")
    refused(command("search", run_folder / "broken.yaml"), "not valid YAML")


def test_output_that_holds_something_else(finished: Path, command: Command) -> None:
    search = finished / "search.yaml"
    refused(command("search", search), "already holds a run", "--resume")
    other = write_search(finished, search={"trials": 3, "seed": 9})
    refused(command("search", other, "--resume"), "different run", "search.seed")
    (finished / "full").mkdir()
    (finished / "full" / "letter.txt").write_text("dear")
    refused(command("search", search, "--output", finished / "full"), "not empty", "letter.txt")
    assert (finished / "full" / "letter.txt").is_file()
    refused(command("export", finished / "nothing"), "holds no run")
    refused(command("export", finished / "run", "--trial", 99), "no trial 99")


def test_merge_refuses(finished: Path, command: Command) -> None:
    best = finished / "run" / "best.yaml"
    (finished / "taken").mkdir()
    (finished / "taken" / "file").touch()
    refused(command("merge", best, finished / "taken"), "exists and is not empty", "--overwrite")
    refused(command("merge", best, finished / "out", "--max-shard-size", "big"), "such as 5GB")
    recipe = finished / "bad.yaml"
    recipe.write_text(
        "merge_method: ties\nbase_model: base\nmodels: [{model: a, parameters: {weight: 1, density: 1.5}}]\n"
    )
    refused(command("merge", recipe, finished / "out"), "density must lie in [0, 1], but is 1.5")
    assert not (finished / "out").exists()


def test_verify_without_its_run(finished: Path, command: Command) -> None:
    best = finished / "alone" / "best.yaml"
    best.parent.mkdir()
    shutil.move(finished / "run" / "best.yaml", best)
    shutil.rmtree(finished / "run")
    refused(command("verify", best), "--config")
    assert command("verify", best, "--config", finished / "search.yaml").code == 0

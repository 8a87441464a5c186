"""What scripts use: versions, JSON, lists of trials, quiet and debug, and runs that begin again."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from tiny_run import write_search

import mergesmith
from mergesmith.merge_ops import METHODS

JUDGE = "def score(model, tokenizer, split):\n    key = {}\n    return key['judge API key']\n"


@pytest.fixture
def finished(run_folder: Path, command: Command) -> Path:
    """A folder with a finished run in it."""
    assert command("search", write_search(run_folder, tasks=("mc",), search={"trials": 3})).code == 0
    return run_folder


def printed(command: Command, *arguments: object, code: int = 0) -> Any:
    outcome = command(*arguments)
    assert outcome.code == code, outcome
    return json.loads(outcome.out)


def test_version_and_short_help(command: Command) -> None:
    for option in ("--version", "-V"):
        assert command(option).out == f"mergesmith {mergesmith.__version__}\n"
    assert command("-h").out == command("--help").out
    assert "--resume" in command("search", "-h").out
    assert "--install-completion" in command("-h").out


def test_methods(command: Command) -> None:
    every = command("methods")
    assert all(name in every.out for name in METHODS)
    assert len(every.out.splitlines()) < 100
    assert "density" in command("methods", "ties").out
    assert "Did you mean 'ties'?" in command("methods", "tie").err
    (ties,) = printed(command, "methods", "ties", "--json")
    (density,) = [parameter for parameter in ties["parameters"] if parameter["name"] == "density"]
    assert (density["low"], density["high"], density["scope"], density["kind"]) == (0.0, 1.0, "non_base", "float")
    assert {method["name"] for method in printed(command, "methods", "--json")} == set(METHODS)


def test_json_of_runs(finished: Path, command: Command) -> None:
    run = finished / "run"
    status = printed(command, "status", run, "--json")
    assert (status["done"], status["total"], status["finished"]) == (13, 13, True)
    assert status["driver"]["running"] is False
    rows = printed(command, "trials", run, "--json")
    assert [row["number"] for row in rows] == list(range(13))
    assert (rows[0]["label"], rows[0]["state"]) == ("base", "complete")
    assert rows[0]["score_mc"] == rows[0]["value"]
    table = list(csv.DictReader(io.StringIO(command("trials", run, "--csv").out)))
    assert [float(row["value"]) for row in table] == [row["value"] for row in rows]
    assert table[12]["params_method"] == rows[12]["params_method"]
    assert "13 trials" in command("trials", run).out
    items = printed(command, "items", run, "--json")
    assert len(items) == 60
    assert {"task", "item", "mean", "correlation", "same_for_all", "scores"} == set(items[0])


def test_json_of_models(finished: Path, command: Command) -> None:
    search = finished / "search.yaml"
    plan = printed(command, "plan", search, "--json")
    assert plan["tasks"]["mc"]["items"]["search"] == 60
    assert len(plan["baselines"]) == 10
    assert plan["costs"]["seconds"] == pytest.approx(sum(plan["costs"]["phases"].values()))
    found = printed(command, "eval", finished / "a", "--config", search, "--json")
    assert found["tasks"]["mc"]["value"] == found["objective"]["value"]
    verified = printed(command, "verify", finished / "run" / "best.yaml", "--json")
    assert verified["passed"] is True
    assert verified["weights"]["digest"] == verified["weights"]["recorded"]
    assert verified["tasks"]["mc"]["flipped"] == 0


def test_quiet_prints_the_result_only(run_folder: Path, command: Command) -> None:
    search = write_search(run_folder, tasks=("mc",), search={"trials": 1})
    outcome = command("--quiet", "search", search)
    assert outcome.code == 0
    assert "Scores on the report items" in outcome.out
    assert "loading" not in outcome.out
    assert "trials" not in outcome.out.split("Scores on the report items")[0]
    again = command("search", search, "--output", run_folder / "loud")
    assert "loading 1 task" in again.out
    assert "checking the scorers on the base and 3 models" in again.out


def test_debug_shows_the_traceback(command: Command, tmp_path: Path) -> None:
    assert "Traceback" not in command("status", tmp_path).err
    shown = command("status", tmp_path, "--debug")
    assert shown.code == 2
    assert "Traceback" in shown.err
    assert "holds no run" in shown.err


def test_overwrite(finished: Path, command: Command) -> None:
    search = finished / "search.yaml"
    refused = command("search", search)
    assert refused.code == 2
    assert "already holds a run" in refused.err
    (finished / "run" / "notes.txt").write_text("mine")
    refused = command("search", search, "--overwrite", "--resume")
    assert refused.code == 2
    (finished / "run" / "notes.txt").unlink()
    write_search(finished, tasks=("mc",), search={"trials": 1})
    assert command("search", search, "--overwrite").code == 0
    assert len((finished / "run" / "trials.jsonl").read_text().splitlines()) == 11


def test_a_run_without_a_success_begins_again(run_folder: Path, command: Command) -> None:
    judge = run_folder / "judge.py"
    judge.write_text(JUDGE)
    search = write_search(run_folder, tasks=({"name": "judge", "python": "./judge.py:score"},), search={"trials": 1})
    failed = command("search", search)
    assert failed.code == 1
    assert f"raised KeyError: 'judge API key' ({judge}, line 3: return key['judge API key'])" in failed.out + failed.err
    judge.write_text("def score(model, tokenizer, split):\n    return float(model.lm_head.weight.abs().mean())\n")
    again = command("search", search)
    assert again.code == 0, again.err
    assert "in which nothing could be scored" in again.out

"""What is wrong without opening a model or a task is reported at once, all of it, before the heavy imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Command
from tiny_run import write_search

from mergesmith.evaluators import TaskConfig, check_task_names
from mergesmith.optimizer.run_folder.lock import take_lock

HEAVY = ("torch", "transformers", "lm_eval", "optuna", "datasets", "scipy", "numba", "ray", "huggingface_hub")
CALL = """
import json, sys
from mergesmith.optimizer.commands.cli import main
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)))
"""


def reported(folder: Path, *arguments: str) -> str:
    """The message of a command that ends with code 2 in a process that has imported nothing heavy."""
    command = [sys.executable, "-c", CALL, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done
    assert sorted(set(json.loads(done.stdout.splitlines()[-1])) & set(HEAVY)) == []
    return done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokeniser_source": "union"}, "unknown key 'tokeniser_source'. Did you mean 'tokenizer_source'?"),
        ({"search": {"trials": "many"}}, "search.trials"),
        ({"search": {"sampler": "cma-es"}}, "Did you mean 'cmaes'?"),
        ({"models": ["./a", "./nowhere"]}, "model './nowhere': no such folder"),
        ({"space": {"methods": ["tie"]}}, "unknown merge method 'tie'. Did you mean 'ties'?"),
        ({"space": {"methods": {"ties": {"wieght": 1}}}}, "Did you mean 'weight'?"),
        ({"baselines": ["nowhere.yaml"]}, "nowhere.yaml: cannot be read"),
        ({"tasks": [{"name": "judge", "python": "./judge.py:score"}]}, "there is no file"),
        ({"task_path": ["./nowhere"]}, "task_path: there is no folder"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("name", ["search", "plan"])
def test_a_wrong_search_file(run_folder: Path, name: str, changes: dict[str, Any], message: str) -> None:
    assert message in reported(run_folder, name, str(write_search(run_folder, **changes)))


def test_an_output_that_is_in_use(run_folder: Path) -> None:
    search, run = write_search(run_folder), run_folder / "run"
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    assert "is not empty (it holds notes.txt)" in reported(run_folder, "search", str(search))
    (run / "notes.txt").unlink()
    for name in ("search.yaml", "environment.json"):  # the least that makes a folder a run
        (run / name).write_text(search.read_text() if name == "search.yaml" else json.dumps({"root": str(run_folder)}))
    assert "already holds a run" in reported(run_folder, "search", str(search))
    changed = write_search(run_folder, search={"seed": 5, "trials": 9})
    assert "search.sampler, search.seed changed" in reported(run_folder, "search", str(changed), "--resume")
    same = write_search(run_folder)
    take_lock(run)  # held by this process until it ends
    assert "another process is working on this run" in reported(run_folder, "search", str(same), "--resume")


def test_a_wrong_recipe(run_folder: Path) -> None:
    recipe = run_folder / "recipe.yaml"
    recipe.write_text("merge_method: lineal\nmodels: [{model: ./a}]\n")
    assert "Did you mean 'linear'?" in reported(run_folder, "merge", "recipe.yaml", "out")
    document = {"merge_method": "linear", "models": [{"model": name, "parameters": {"weight": 1}} for name in "ax"]}
    recipe.write_text(yaml.safe_dump(document))
    assert "model 'x': no such folder" in reported(run_folder, "merge", "recipe.yaml", "out")
    write_search(run_folder)
    assert "model 'x': no such folder" in reported(run_folder, "eval", "recipe.yaml", "--config", "search.yaml")
    assert "model 'a': " not in reported(run_folder, "merge", "recipe.yaml", "out")
    recipe.write_text(recipe.read_text().replace("model: x", "model: b"))
    (run_folder / "out").mkdir()
    (run_folder / "out" / "notes.txt").write_text("mine")
    assert "exists and is not empty" in reported(run_folder, "merge", "recipe.yaml", "out")


@pytest.mark.usefixtures("short_index")
def test_models_space_and_tasks_are_reported_together(run_folder: Path, command: Command) -> None:
    wrong = {"models": ["./a", "./nowhere"], "space": {"methods": ["tie"]}}
    outcome = command("search", write_search(run_folder, tasks=("mc", "gsm9k"), **wrong))
    assert outcome.code == 2
    assert "search.yaml: 3 faults" in outcome.err
    for part in ("model './nowhere'", "'ties'", "tasks: gsm9k: unknown task 'gsm9k'. Did you mean 'gsm8k'?"):
        assert part in outcome.err


@pytest.mark.usefixtures("short_index")
def test_faults_of_opened_models_come_with_those_of_tasks(run_folder: Path, command: Command) -> None:
    (run_folder / "broken").mkdir()
    search = write_search(run_folder, tasks=("mc", "gsm9k"), models=["./a", "./broken"])
    outcome = command("search", search)
    assert outcome.code == 2
    assert "search.yaml: 2 faults" in outcome.err
    assert "broken" in outcome.err
    assert "gsm9k" in outcome.err
    assert not (run_folder / "run").exists()


def test_names_of_tasks_are_found_without_reading_the_index(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_search(run_folder)
    monkeypatch.setitem(sys.modules, "mergesmith.evaluators.tasks.catalog", None)  # importing it would fail
    tasks = [TaskConfig(name=name) for name in ("mc", "gsm8k", "mmlu", "arc_easy")]
    check_task_names(tasks, ["./tasks"], run_folder)

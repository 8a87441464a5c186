"""Runs with divided and shared parameters, warnings about spaces, limits that cannot bind, code of checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from command_line import Command
from tiny_run import write_search

from mergesmith.optimizer.run_folder.run_folder import RunFolder

CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_a_search_over_every_form_of_division(run_folder: Path, command: Command) -> None:
    space = {
        "steps": 2,
        "methods": {
            "ties": {"density": {"share": True, "knots": 1}, "filters": ["re:[qk]_proj"]},
            "slerp": {"models": ["./b", "./a"], "t": {"range": [0.1, 0.9], "knots": 2}},
            "task_arithmetic": {"models": ["./a", "./c"]},
        },
    }
    search = write_search(run_folder, tasks=("mc",), space=space, search={"sampler": "auto", "trials": 6})
    outcome = command("search", search)
    assert outcome.code == 0, outcome.err
    run = RunFolder.open(run_folder / "run")
    proposed = [trial for trial in run.trials() if not trial.name and not trial.probe]
    assert len(proposed) == 6 and not any(trial.failed for trial in proposed), [trial.error for trial in proposed]
    assert command("search", search, "--resume").code == 0  # the run's copy says the same
    written = yaml.safe_load((run_folder / "run" / "search.yaml").read_text())["space"]["methods"]
    assert written["slerp"]["models"] == ["./b", "./a"] and written["ties"]["filters"] == ["re:[qk]_proj"]


def test_doubts_are_printed_before_trials_are_spent(run_folder: Path, command: Command) -> None:
    space = {"knots": 9, "methods": {"ties": {"normalize": True}}}
    search = write_search(run_folder, tasks=("mc",), space=space, search={"sampler": "random", "trials": 1})
    for name in ("plan", "search"):
        outcome = command(name, search)
        assert outcome.code == 0, outcome.err
        printed = outcome.out + outcome.err
        assert "ties has 63 dimensions, more than the 1 trials" in printed
        assert "ties has 9 knots over 2 layers" in printed
        assert "so lambda is searched in [0, 2]" in printed


@pytest.mark.parametrize(("task", "limit", "meant"), [("mc", 5, "write max_drop: 0.05"), ("gen", 1, "")])
def test_a_limit_that_cannot_bind(run_folder: Path, command: Command, task: str, limit: float, meant: str) -> None:
    outcome = command("plan", write_search(run_folder, tasks=({"name": task, "max_drop": limit},)))
    assert outcome.code == 2
    assert f"{task}: max_drop: {limit} can never be exceeded, as the metric lies between 0 and 1" in outcome.err
    assert meant in outcome.err


def test_a_limit_in_a_metric_without_bounds_may_be_large(run_folder: Path, command: Command) -> None:
    outcome = command("plan", write_search(run_folder, tasks=({"name": "ppl", "max_drop": 5},)))
    assert outcome.code == 0, outcome.err


def test_code_of_checkpoints_runs_in_every_command_that_allows_it(
    run_folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(run_folder / "modules"))
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    for name in ("base", "a", "b", "c"):
        link = run_folder / name
        files = {path.name: path.read_bytes() for path in link.iterdir()}
        link.unlink()
        link.mkdir()
        for file, content in files.items():
            (link / file).write_bytes(content)
        config = json.loads(files["config.json"])
        changed = {**config, "model_type": "own", "architectures": ["OwnForCausalLM"], "auto_map": classes}
        (link / "config.json").write_text(json.dumps(changed))
        (link / "own.py").write_text(CODE)
    search = write_search(run_folder, tasks=("mc",), search={"sampler": "random", "trials": 1})
    run = run_folder / "run"
    for arguments in (
        ("plan", search),
        ("search", search),
        ("verify", run / "best.yaml"),
        ("eval", run / "best.yaml", "--config", search),
        ("export", run, run_folder / "vector", "--as", "task-vector", "--trial", 5),
        ("replay", run),
    ):
        refused = command(*arguments)
        assert refused.code == 2, arguments
        allowed = command(*arguments, "--trust-remote-code")
        assert allowed.code == 0, (arguments, allowed.out, allowed.err)

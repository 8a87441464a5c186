"""`mergesmith init`: the file that it writes is commented, valid, and runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from command_line import Command
from tiny_run import write_search

from mergesmith.optimizer.config import load_config


def test_the_file_runs(run_folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    write_search(run_folder).unlink()  # keeps the tasks
    monkeypatch.chdir(run_folder)
    options = ("--task", "mc", "--task", "gen", "--task-path", "tasks", "--trials", "1", "-o", "my.yaml")
    outcome = command("init", "base", "./a", "b", "c", *options)
    assert outcome.code == 0, outcome.err
    assert "Next: mergesmith plan my.yaml" in outcome.out
    first, *lines = Path("my.yaml").read_text().splitlines()
    assert first == "# yaml-language-server: $schema=./search.schema.json"
    assert Path("search.schema.json").is_file()
    assert sum(line.lstrip().startswith("#") for line in lines) > 8
    assert max(map(len, lines)) <= 120
    config = load_config(Path("my.yaml"))
    assert (config.base_model, config.models) == ("./base", ("./a", "./b", "./c"))
    assert [task.name for task in config.tasks] == ["mc", "gen"]
    assert command("search", "my.yaml").code == 0
    assert Path("runs/search/best.yaml").is_file()


def test_models_are_named_as_the_file_sees_them(
    run_folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_folder)
    outcome = command("init", "owner/base@v2", "a", "--task", "no: 1", "-o", "deep/search.yaml")
    assert outcome.code == 0, outcome.err
    config = load_config(run_folder / "deep/search.yaml")
    assert (config.base_model, config.models) == ("owner/base@v2", ("./../a",))
    assert config.tasks[0].name == "no: 1"
    assert "linear" not in config.space.methods  # of one model, an average is that model


def test_faults(run_folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run_folder)
    for arguments, message in (
        ((), "init: BASE and MODEL and --task missing"),
        (("base", "a"), "init: --task missing: mergesmith init BASE MODEL... --task NAME"),
        (("base", "./nowhere", "--task", "mc"), "there is no folder './nowhere'"),
        (("base", "a", "a", "--task", "mc"), "'./a' is listed twice"),
    ):
        outcome = command("init", *arguments)
        assert outcome.code == 2 and message in outcome.err, outcome.err
        assert not Path("search.yaml").exists()
    Path("search.yaml").write_text("mine")
    assert "search.yaml exists" in command("init", "base", "a", "--task", "mc").err
    assert Path("search.yaml").read_text() == "mine"
    assert command("init", "base", "a", "--task", "mc", "--overwrite").code == 0


def test_interactive(run_folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run_folder)
    answers = iter(["./a ./b", "mc gen", 7])
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: next(answers))
    assert command("init", "base", "--interactive").code == 0
    config = load_config(Path("search.yaml"))
    assert config.models == ("./a", "./b") and config.search.trials == 7

"""Small real runs, and the command line called in this process."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Command, Outcome
from tiny_run import write_run

from mergesmith.optimizer.commands import cli
from mergesmith.optimizer.stop_signals import EXIT_CODES


@pytest.fixture(scope="session", autouse=True)
def _own_dataset_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from datasets import config

    before = config.HF_DATASETS_CACHE
    config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")
    yield
    config.HF_DATASETS_CACHE = before


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """`command("merge", recipe, out)`: the command line, with its exit code and what it printed."""

    def run(*arguments: object) -> Outcome:
        handlers = {number: signal.getsignal(number) for number in EXIT_CODES}
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        monkeypatch.setattr(sys, "argv", ["mergesmith", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:  # the command line is made for a process of its own
            for number, handler in handlers.items():
                signal.signal(number, handler)
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models, tasks and a search.yaml. Not to be written to."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder)
    return folder


@pytest.fixture
def run_folder(models: Path, tmp_path: Path) -> Path:
    """A fresh folder with the same models, to write tasks, search.yaml and runs to."""
    for model in ("base", "a", "b", "c"):
        (tmp_path / model).symlink_to(models / model)
    return tmp_path

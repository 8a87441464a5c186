"""A run named by a relative path from another working directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Command
from tiny_run import write_search


def test_search_from_the_folder_above(run_folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    write_search(run_folder, search={"trials": 1})
    monkeypatch.chdir(run_folder.parent)
    search = Path(run_folder.name) / "search.yaml"
    outcome = command("search", search)
    assert outcome.code == 0, outcome.err
    best = search.parent / "run" / "best.yaml"
    assert command("verify", best).code == 0
    assert command("eval", f"{run_folder.name}/a", "--config", search).code == 0

"""A run's folder that was moved together with its models and tasks."""

from __future__ import annotations

from pathlib import Path

from command_line import Command
from tiny_models import write_family
from tiny_run import write_search

from mergesmith.merge_ops import read_recipe


def test_a_moved_run_goes_on_and_is_read(tmp_path: Path, command: Command) -> None:
    home, there = tmp_path / "home", tmp_path / "elsewhere"
    write_family(home, "llama", layers=2)
    search = write_search(home, tasks=("mc",), search={"trials": 2})
    assert command("search", search).code == 0
    home.rename(there)
    (there / "search.yaml").unlink()  # the run's own copy is enough
    for path in (there / "tasks").glob("*.yaml"):  # a task names its data itself
        path.write_text(path.read_text().replace(str(home), str(there)))
    run = there / "run"
    exported = command("export", run)
    assert exported.code == 0, exported.err
    assert str(home) not in "".join(read_recipe_references(exported.out, tmp_path))
    assert command("export", run, "--trial", 11).code == 0
    assert command("items", run).code == 0
    assert command("status", run).code == 0
    verified = command("verify", run / "best.yaml")
    assert "reproduced bit for bit" in verified.out, verified
    resumed = command("search", run / "search.yaml", "--resume", "--trials", 3)
    assert resumed.code == 0, resumed.err
    assert len((run / "trials.jsonl").read_text().splitlines()) == 13
    assert command("verify", run / "best.yaml").code == 0


def read_recipe_references(text: str, folder: Path) -> tuple[str, ...]:
    path = folder / "exported.yaml"
    path.write_text(text)
    return read_recipe(path).references()

"""`mergesmith report` on real runs, and the report that a search writes at its end."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from command_line import Command
from tiny_run import write_search

from mergesmith.merge_ops import read_recipe
from mergesmith.optimizer.commands import report
from mergesmith.optimizer.run_folder import atomic_files
from mergesmith.optimizer.run_folder.answer_file import read_answers


def test_a_search_ends_with_a_report(run_folder: Path, command: Command) -> None:
    tasks = ("mc", {"name": "gen", "max_drop": 0.9})
    search = write_search(run_folder, tasks=tasks, search={"sampler": "random", "trials": 8, "seed": 0})
    outcome = command("search", search)
    run = run_folder / "run"
    assert outcome.code == 0, outcome.err
    assert f"Report: {run / 'report.html'}" in outcome.out
    written = (run / "report.html").read_bytes()
    verdict = json.loads((run / "verdict.json").read_text())
    assert verdict["comparisons"][0]["sentence"].encode() in written
    (limit,) = verdict["limits"]
    assert (limit["task"], limit["allowed"], limit["kept"]) == ("gen", 0.9, True)
    assert limit["sentence"] in outcome.out
    assert read_recipe(run / "best.yaml").facts["limits"] == [limit["sentence"]]
    assert {*verdict["comparisons"][0]["tasks"]} == {"mc", "gen"}
    again = command("report", run, "-o", run_folder / "again.html")
    assert again.code == 0, again.err
    assert again.out == f"wrote {run_folder / 'again.html'}\n"
    assert (run_folder / "again.html").read_bytes() == written
    assert command("report", run, "--with-texts").code == 0


def test_answers_of_all_reported_models_are_kept(run_folder: Path, command: Command) -> None:
    assert command("search", write_search(run_folder, search={"trials": 2})).code == 0
    run = run_folder / "run"
    answers, verdict = read_answers(run), json.loads((run / "verdict.json").read_text())
    assert {*answers.by_trial} == {row["trial"] for row in verdict["report"]}
    documents = [json.loads(line) for line in (run_folder / "tasks" / "mc.jsonl").read_text().splitlines()]
    for item, text in answers.items["mc"].items():
        document = documents[int(item)]
        assert text.prompt == f"{document['question']}="
        assert text.gold == document["choices"][document["answer"]]
        assert all(found["mc"][item] in document["choices"] for found in answers.by_trial.values())
    size = (run / "answers.jsonl").stat().st_size
    assert command("search", run / "search.yaml", "--resume").code == 0
    assert (run / "answers.jsonl").stat().st_size == size


def test_a_report_that_cannot_be_drawn_does_not_fail_the_search(
    run_folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("no axis")

    monkeypatch.setattr(report, "write_report", fail)
    outcome = command("search", write_search(run_folder, search={"trials": 1}))
    assert outcome.code == 0, outcome.err
    assert "the report was not written: ZeroDivisionError: no axis" in outcome.err
    assert (run_folder / "run" / "best.yaml").is_file()


def test_a_folder_that_cannot_be_written(run_folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(path: Path, data: bytes) -> None:
        if path.parent.name == "run":
            raise PermissionError(errno.EROFS, "Read-only file system")
        path.write_bytes(data)

    assert command("search", write_search(run_folder, search={"trials": 1})).code == 0
    monkeypatch.setattr(atomic_files, "replace_file", replace)
    outcome = command("report", run_folder / "run")
    assert outcome.code == 2
    assert "report.html cannot be written; name another file with --output" in outcome.err
    assert command("report", run_folder / "run", "-o", run_folder / "here.html").code == 0


def test_no_run_and_no_folder(run_folder: Path, command: Command) -> None:
    outcome = command("report", run_folder)
    assert outcome.code == 2
    assert "holds no run" in outcome.err
    assert command("search", write_search(run_folder, search={"trials": 1})).code == 0
    outcome = command("report", run_folder / "run", "--output", run_folder / "none" / "file.html")
    assert outcome.code == 2
    assert "cannot be written" in outcome.err

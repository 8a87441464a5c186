"""Runs that end badly: killed, interrupted, on a full disk, two at once. Nothing finished is lost."""

from __future__ import annotations

import fcntl
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from forked_command import ForkedCommand
from tiny_run import write_search

TRIALS = 30


def wait_for_trials(run: Path, count: int, process: ForkedCommand) -> None:
    deadline = time.monotonic() + 120
    while len(finished(run)) < count:
        assert process.returncode is None, process.err
        assert time.monotonic() < deadline
        time.sleep(0.005)


def finished(run: Path) -> list[dict[str, Any]]:
    path = run / "trials.jsonl"
    text = path.read_text() if path.is_file() else ""
    found = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    for line in found:
        del line["seconds"]
    return found


@pytest.fixture
def search(run_folder: Path) -> Path:
    return write_search(run_folder, tasks=("mc",), search={"sampler": "tpe", "trials": TRIALS, "seed": 2})


def test_killed_at_any_moment_and_resumed_is_the_same_run(search: Path, run_folder: Path, command: Command) -> None:
    killed, whole = run_folder / "killed", run_folder / "whole"
    for count in (4, 19):  # among the baselines, and among the proposals
        process = ForkedCommand(run_folder, "search", search, "--output", killed, "--resume")  # the first time too
        wait_for_trials(killed, count, process)
        process.send(signal.SIGKILL)
        process.wait(60)
        assert count <= len(finished(killed)) < 10 + TRIALS
    outcome = command("search", search, "--output", killed, "--resume")
    assert outcome.code == 0, outcome.err
    assert command("search", search, "--output", whole).code == 0
    assert finished(killed) == finished(whole)
    best = [(run / "best.yaml").read_text().replace(f"/{run.name}\n", "") for run in (killed, whole)]
    assert best[0] == best[1]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_says_how_to_go_on(
    sent: signal.Signals, code: int, search: Path, run_folder: Path, command: Command
) -> None:
    run = run_folder / "run"
    process = ForkedCommand(run_folder, "search", search)
    wait_for_trials(run, 12, process)
    process.send(sent)
    err = process.wait(60)
    assert process.returncode == code, err
    assert "--resume" in err
    assert "Traceback" not in err
    kept = len(finished(run))
    assert command("search", search, "--resume").code == 0
    assert len(finished(run)) == 10 + TRIALS > kept


@pytest.mark.parametrize(("grace", "signals"), [(60, 2), (1, 1)])
def test_what_is_in_flight_is_given_up(grace: int, signals: int, run_folder: Path) -> None:
    """At the second signal, or when the grace time is over, however long the candidate would take."""
    (run_folder / "objectives.py").write_text(
        "import pathlib, time\n"
        "def slow(model, tokenizer, split):\n"
        "    pathlib.Path(__file__).with_name('begun').touch()\n"
        "    time.sleep(100)\n"
    )
    task = {"name": "slow", "python": "./objectives.py:slow", "higher_is_better": True}
    search = write_search(run_folder, tasks=(task,), workers={"threads": 1, "grace": grace})
    process = ForkedCommand(run_folder, "search", search)
    deadline = time.monotonic() + 60
    while not (run_folder / "begun").exists():
        assert process.returncode is None, process.err
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for _ in range(signals):
        process.send(signal.SIGINT)
        time.sleep(0.5)
    err = process.wait(30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert finished(run_folder / "run") == []


def test_full_disk_keeps_what_is_finished(search: Path, run_folder: Path, command: Command) -> None:
    run = run_folder / "run"
    process = ForkedCommand(run_folder, "search", search, limit=15_000)  # trials.jsonl reaches it after some trials
    err = process.wait(120)
    assert process.returncode == 2
    assert "cannot be written" in err
    assert "--resume" in err
    assert "Traceback" not in err
    kept = finished(run)
    assert 0 < len(kept) < 10 + TRIALS
    assert (run / "trials.jsonl").read_bytes().endswith(b"\n")  # no half line
    assert not list(run.glob(".*"))  # no half file
    assert command("search", search, "--resume").code == 0
    assert finished(run)[: len(kept)] == kept
    assert len(finished(run)) == 10 + TRIALS


def test_one_driver_at_a_time(search: Path, run_folder: Path, command: Command) -> None:
    assert command("search", search, "--trials", 1).code == 0
    with (run_folder / "run" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = command("search", search, "--resume")
        assert outcome.code == 2
        assert "another process is working on this run" in outcome.err
    assert command("search", search, "--resume", "--trials", 1).code == 0  # a lock that nobody holds is no obstacle


def test_stale_optuna_lock_does_not_block(search: Path, run_folder: Path, command: Command) -> None:
    assert command("search", search, "--trials", 1).code == 0
    (run_folder / "run" / "study.journal.lock").touch()
    began = time.monotonic()
    assert command("search", search, "--trials", 2, "--resume").code == 0
    assert time.monotonic() - began < 25  # Optuna would wait 30 s for the lock

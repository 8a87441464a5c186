"""`mergesmith status`: a run seen from another shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from command_line import Command
from made_runs import make_run, make_trial
from tiny_run import write_search

from mergesmith.optimizer.commands.status import read_status
from mergesmith.optimizer.run_folder.atomic_files import json_line
from mergesmith.optimizer.run_folder.file_names import EVENTS
from mergesmith.optimizer.run_folder.run_folder import RunFolder

BASELINES = 3


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with three baselines and four of twenty trials finished, one of them dropped, one failed, one repeated."""
    run = make_run(tmp_path / "run", trials=20)
    for number in range(BASELINES):
        run.append(make_trial(number, name=f"baseline {number}", value=0.1 * number), None)
    run.append(make_trial(3, value=0.7), None)
    run.append(make_trial(4, value=0.9, state="dropped"), None)
    run.append(make_trial(5, value=None, state="failed", error="no room"), None)
    run.append(make_trial(6, value=0.7, repeats=3), None)
    return run


def rewrite_events(run: RunFolder, now: float, events: list[tuple[float, str, dict[str, Any]]]) -> None:
    """Events that happened so many seconds ago."""
    lines = [json_line({"at": now - ago, "event": event, **facts}) for ago, event, facts in events]
    (run.path / EVENTS).write_bytes(b"".join(lines))


def test_counts_and_best(run: RunFolder) -> None:
    status = read_status(run.path, time.time())
    assert (status.done, status.total) == (7, BASELINES + 20)
    assert {k: n for k, n in status.states.items() if n} == {"complete": 5, "dropped": 1, "failed": 1, "repeated": 1}
    assert status.best == ("trial 3 (task_arithmetic)", 0.7)  # not the dropped one's estimate, the first of equals
    assert status.driver.running
    assert not status.finished
    run.note("best", label="baseline 2", value=0.2)  # the driver knows better, where tasks have limits
    assert read_status(run.path, time.time()).best == ("baseline 2", 0.2)


def test_the_number_of_baselines_is_not_guessed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", trials=20)
    run.append(make_trial(0, name="base"), None)
    assert read_status(run.path, time.time()).total is None
    run.note("driver", state="started", pid=1, host="here", baselines=9)
    assert read_status(run.path, time.time()).total == 29


def test_what_happens_now(run: RunFolder) -> None:
    now = time.time()
    events: list[tuple[float, str, dict[str, Any]]] = [
        (9000, "driver", {"state": "started", "pid": 1, "host": "old"}),
        (8990, "worker", {"name": "w9", "state": "ready"}),
        (8000, "asked", {"number": 8}),  # in flight when that driver died; asked for again below
        (7900, "finished", {"number": 0}),
        (400, "driver", {"state": "started", "pid": 2, "host": "new"}),
        (399, "worker", {"name": "w0", "state": "ready", "node": "a"}),
        (399, "worker", {"name": "w1", "state": "ready", "node": "b"}),
        *((390 - 30 * i, "finished", {"number": i}) for i in range(1, 7)),
        (100, "asked", {"number": 7, "after": 7, "params": {}}),
        (60, "asked", {"number": 8, "after": 7, "params": {}}),
        (50, "lost", {"number": 7, "worker": "w1", "place": "b", "error": "killed\nsecond line", "counts": True}),
        (50, "worker", {"name": "w1", "state": "lost", "place": "b", "error": "killed"}),
    ]
    rewrite_events(run, now, events)
    status = read_status(run.path, now)
    assert [(number, round(age)) for number, age in status.waiting] == [(7, 100), (8, 60)]
    assert {name: event["state"] for name, event in status.workers.items()} == {"w0": "ready", "w1": "lost"}
    assert [event["number"] for event in status.lost] == [7]
    assert status.per_hour == pytest.approx(3600 / 30)  # of this session's, without what came before the first
    assert status.seconds_left == pytest.approx((23 - 7) * 30)


def test_told_of_a_running_run(run: RunFolder, command: Command) -> None:
    run.note("asked", number=7, after=7, params={})
    run.note("lost", number=7, worker="w1", place="b", error="killed\nsecond line", seconds=3.0, counts=True)
    run.note("worker", name="w1", state="lost", place="b", error="killed")
    outcome = command("status", run.path)
    assert outcome.code == 0, outcome.err
    for part in (
        "7 of 23 finished: 5 complete, 1 dropped early, 1 failed, 1 repeated",
        "0.7000 by trial 3 (task_arithmetic)",
        "1: trial 7 for 0 s",
        "trial 7 on w1: killed",
        "1 lost",
        "w1 at b lost: killed",
        f"running, pid {os.getpid()} on ",
    ):
        assert part in outcome.out, outcome.out
    assert "second line" not in outcome.out
    assert "--resume" not in outcome.out


def test_told_of_a_dead_run_and_of_a_line_in_the_making(run: RunFolder, command: Command) -> None:
    run.note("asked", number=7, after=7, params={})
    run.close()
    for name in ("trials.jsonl", "events.jsonl"):
        with (run.path / name).open("a") as file:
            file.write('{"number": 8, "st')
    outcome = command("status", run.path)
    assert outcome.code == 0, outcome.err
    assert "7 of 23 finished" in outcome.out
    assert f"not running (last: pid {os.getpid()} on" in outcome.out
    assert f"mergesmith search {run.path}/search.yaml --resume" in outcome.out
    assert "trial 7; repeated on resume" in outcome.out


def test_told_of_a_finished_run(run_folder: Path, command: Command) -> None:
    search = write_search(run_folder, tasks=("mc",), search={"trials": 1})
    assert command("search", search).code == 0
    outcome = command("status", run_folder / "run")
    assert outcome.code == 0, outcome.err
    assert "11 of 11 finished: 11 complete" in outcome.out
    assert "finished (last: pid" in outcome.out
    winner = json.loads((run_folder / "run" / "verdict.json").read_text())["winner"]["name"]
    assert f"{winner}; {run_folder}/run/best.yaml" in outcome.out
    assert f"winner: {winner}" in outcome.out
    assert "uniform: uniform" in outcome.out
    assert "The winner is" in outcome.out
    assert "--resume" not in outcome.out


def test_no_run_is_one_message(tmp_path: Path, command: Command) -> None:
    outcome = command("status", tmp_path / "nowhere")
    assert outcome.code == 2
    assert outcome.err == f"mergesmith: {tmp_path}/nowhere holds no run\n"


def test_it_answers_without_the_heavy_libraries(run: RunFolder) -> None:
    code = (
        "import sys\nfor name in ('torch', 'transformers', 'optuna', 'lm_eval', 'numpy'): sys.modules[name] = None\n"
        f"sys.argv = ['mergesmith', 'status', {str(run.path)!r}]\n"
        "from mergesmith.optimizer.commands.cli import main\nmain()"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "7 of 23 finished" in done.stdout

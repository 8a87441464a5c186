"""A run's folder: events, a disk that is full for a while, the lock, a run that was moved."""

from __future__ import annotations

import errno
import fcntl
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from checkout import ROOT
from made_runs import SPACE, config, make_run, make_scores, make_trial

from mergesmith.errors import UserError
from mergesmith.optimizer import stop_signals
from mergesmith.optimizer.run_folder import durable_files
from mergesmith.optimizer.run_folder.lifecycle import resume_run
from mergesmith.optimizer.run_folder.lock import driver
from mergesmith.optimizer.run_folder.run_folder import RunFolder
from mergesmith.optimizer.search.optuna_journal import Journal


def resume(run: RunFolder) -> RunFolder:
    return resume_run(run.path, config(), run.path.parent)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run")


# Events


def test_events_are_read_as_they_were_noted(run: RunFolder) -> None:
    before = time.time()
    run.note("driver", state="started", pid=1, host="ä")
    run.append(make_trial(0), None)
    noted = run.events()
    assert [{k: v for k, v in event.items() if k != "at"} for event in noted] == [
        {"event": "driver", "state": "started", "pid": 1, "host": "ä"},
        {"event": "finished", "number": 0},
    ]
    assert before - 0.001 <= noted[0]["at"] <= noted[1]["at"] <= time.time() + 0.001


def test_a_torn_event_is_not_read_and_is_cut_on_resume(run: RunFolder) -> None:
    run.note("asked", number=0)
    path = run.path / "events.jsonl"
    whole = path.read_bytes()
    run.note("asked", number=1)
    torn = path.read_bytes()[:-5]
    path.write_bytes(torn)
    assert [event["number"] for event in run.events()] == [0]
    run.close()
    resumed = resume(run)
    assert path.read_bytes() == whole
    resumed.note("asked", number=2)
    assert [event["number"] for event in resumed.events()] == [0, 2]


def test_a_damaged_event_in_the_middle_is_told(run: RunFolder) -> None:
    run.note("asked", number=0)
    (run.path / "events.jsonl").write_bytes(b"{damaged\n" + (run.path / "events.jsonl").read_bytes())
    with pytest.raises(UserError, match=r"events\.jsonl: line 1 is damaged"):
        run.events()


def test_what_a_killed_writer_left_goes_on_resume(run: RunFolder) -> None:
    run.close()
    left = [run.path / ".partial-best.yaml.x", run.path / "items" / ".partial-0001.npz.y"]
    for path in left:
        path.touch()
    resume(run)
    assert not any(path.exists() for path in left)


def test_reading_trials_leaves_the_garbage_collector_as_it_was(run: RunFolder) -> None:
    run.append(make_trial(0), None)
    assert gc.isenabled()
    assert len(run.trials()) == 1
    assert gc.isenabled()
    (run.path / "trials.jsonl").write_text("damaged\n")
    with pytest.raises(UserError, match="line 1 is damaged"):
        run.trials()
    assert gc.isenabled()


# Full disks


class FullDisk:
    """Makes writes to files of a name fail `times` times; `half`: after half of the bytes were written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, *, times: int = 2, code: int = errno.ENOSPC) -> None:
        self.name, self.left, self.code, self.met = name, times, code, 0
        self._write, self._fsync = os.write, os.fsync
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(durable_files, "RETRY_S", 0.02)
        monkeypatch.setattr(durable_files, "POLL_S", 0.01)

    def write(self, file: int, data: bytes) -> int:
        if self.name not in Path(f"/proc/self/fd/{file}").readlink().name or not self.left:
            return self._write(file, data)
        self.met += 1
        if self.met % 2 and len(data) > 1:  # as systems do: first what fits, then an error
            return self._write(file, data[: len(data) // 2])
        self.left -= 1
        raise OSError(self.code, os.strerror(self.code))

    def fsync(self, file: int) -> None:
        if self.left == -1 and self.name in Path(f"/proc/self/fd/{file}").readlink().name:
            self.left = 0
            raise OSError(self.code, os.strerror(self.code))
        self._fsync(file)


WRITES: dict[str, Callable[[RunFolder], None]] = {
    "trials.jsonl": lambda run: run.append(make_trial(1), None),
    "0001.npz": lambda run: run.append(make_trial(1), make_scores(1)),
    "ids-": lambda run: run.append(make_trial(1), make_scores(1, items=30)),
    "events.jsonl": lambda run: run.append(make_trial(1), None),
    "study.journal": lambda run: Journal(run, SPACE, run.trials()).add(make_trial(1), {}, 0.1),
    "verdict.json": lambda run: run.files.write_json("verdict.json", {"a": 1}),
}


@pytest.mark.skipif(sys.platform != "linux", reason="finds a file's name in /proc")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("name", WRITES)
def test_a_full_disk_is_waited_for(name: str, code: int, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run.append(make_trial(0), make_scores(0))
    told: list[str] = []
    during: list[bytes] = []

    def announce(message: str) -> None:
        told.append(message)
        during.extend(path.read_bytes() for path in run.path.glob(name))

    run = RunFolder(run.path, announce=announce)
    disk = FullDisk(monkeypatch, name, times=3, code=code)
    before = [path.read_bytes() for path in run.path.glob(name)]
    WRITES[name](run)
    assert disk.left == 0
    assert len(told) == 2  # once when it begins to wait, once when it goes on
    assert "is full" in told[0]
    assert name in told[0]
    assert "continues" in told[1]
    if before and name.endswith("l"):
        assert during[0] == before[0]  # the half line was taken back before the wait
    assert all(line.endswith("}") for line in (run.path / "events.jsonl").read_text().splitlines())
    assert [trial.number for trial in run.trials()] == (
        [0, 1] if name not in ("study.journal", "verdict.json") else [0]
    )
    assert not list(run.path.rglob(".*"))


@pytest.mark.skipif(sys.platform != "linux", reason="finds a file's name in /proc")
def test_a_line_that_does_not_reach_the_disk_is_written_again(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch, "trials.jsonl", times=-1)
    monkeypatch.setattr(disk, "write", disk._write)
    monkeypatch.setattr(os, "write", disk._write)
    run.append(make_trial(0), None)
    assert disk.left == 0
    assert [trial.number for trial in run.trials()] == [0]


@pytest.mark.skipif(sys.platform != "linux", reason="finds a file's name in /proc")
def test_a_waiting_run_can_be_stopped(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    FullDisk(monkeypatch, "trials.jsonl", times=10**9)
    handlers = {number: signal.getsignal(number) for number in stop_signals.EXIT_CODES}
    stop_signals.install()
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        with stop_signals.at_safe_points(0.2), pytest.raises(stop_signals.StoppedError) as stopped:
            run.append(make_trial(0), None)
    finally:
        timer.join()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        stop_signals._state = stop_signals._State()
    assert stopped.value.code == 143
    assert (run.path / "trials.jsonl").read_bytes() == b""


@pytest.mark.skipif(sys.platform != "linux", reason="finds a file's name in /proc")
def test_other_errors_and_other_times_are_not_waited_for(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch, "trials.jsonl", times=10**9, code=errno.EIO)
    with pytest.raises(UserError, match=r"trials\.jsonl cannot be written: Input/output error.*--resume"):
        run.append(make_trial(0), None)
    disk.name, disk.code = "search.yaml", errno.ENOSPC
    with pytest.raises(UserError, match="No space left on device"):
        make_run(tmp_path / "other")


def test_a_stop_signal_in_the_middle_of_a_line_leaves_no_half_line(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def interrupted(file: int, data: bytes) -> int:
        write(file, data[: len(data) // 2])
        raise stop_signals.StoppedError(143)

    run.append(make_trial(0), None)
    before = (run.path / "trials.jsonl").read_bytes()
    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(stop_signals.StoppedError):
        run.append(make_trial(1), None)
    assert (run.path / "trials.jsonl").read_bytes() == before


# The lock


def test_the_lock_names_its_holder(run: RunFolder) -> None:
    assert driver(run.path) == (True, socket.gethostname(), os.getpid())
    with pytest.raises(UserError, match=f"another process is working on this run .pid {os.getpid()} on "):
        resume(run)
    run.close()
    assert driver(run.path) == (False, socket.gethostname(), os.getpid())
    resume(run)
    assert driver(run.path).running


def test_a_dead_driver_holds_nothing(run: RunFolder) -> None:
    run.close()
    code = (
        "import os, signal, sys; from pathlib import Path; from mergesmith.optimizer.run_folder.lock import take_lock\n"
        "take_lock(Path(sys.argv[1])); print('held', flush=True); signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, run.path], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert driver(run.path) == (True, socket.gethostname(), process.pid)
        process.kill()
    assert driver(run.path) == (False, socket.gethostname(), process.pid)


def test_asking_for_the_driver_does_not_turn_one_away(run: RunFolder) -> None:
    """Who asks holds a shared lock for a moment; a driver that begins in that moment waits for it."""
    run.close()
    with (run.path / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        timer = threading.Timer(0.1, fcntl.flock, (file, fcntl.LOCK_UN))
        timer.start()
        resume(run)
        timer.join()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_called_so(
    code: int, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"supports no locks .*--output") as refused:
        make_run(tmp_path / "other")
    assert os.strerror(code) in str(refused.value)
    assert "another process" not in str(refused.value)
    assert driver(run.path) == (None, socket.gethostname(), os.getpid())


# Moving


def test_the_root_is_found_from_the_new_place(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "a").mkdir(parents=True)
    run = make_run(home / "runs" / "one")
    run.close()
    resume_run(run.path, config(), home).close()
    assert run.root == home
    home.rename(tmp_path / "elsewhere")
    moved = RunFolder.open(tmp_path / "elsewhere" / "runs" / "one")
    assert moved.root == tmp_path / "elsewhere"
    assert moved.here(str(home / "a")) == str(tmp_path / "elsewhere" / "a")
    assert moved.here(f"{home}/a+{home}/a") == f"{tmp_path}/elsewhere/a+{tmp_path}/elsewhere/a"
    assert moved.here("owner/model") == "owner/model"
    assert moved.here(str(home / "gone")) == str(home / "gone")
    home.mkdir()
    assert moved.root == home  # what is still there comes first
    document = json.loads((moved.path / "environment.json").read_text())
    assert document["root_from_here"] == "../.."

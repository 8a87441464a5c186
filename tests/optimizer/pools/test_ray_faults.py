"""Candidates that kill, hang or break their workers; what Ray listens on; signals. On a Ray of the run's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import ROOT
from command_line import Command
from tiny_run import write_run

OBJECTIVE = """
import os, signal, time
import torch

def score(model, tokenizer, split):
    size = float(model.get_input_embeddings().weight.float().abs().mean()) / {unit}
    if 9 < size < 11:
        os.kill(os.getpid(), signal.SIGKILL)
    if 19 < size < 21:
        time.sleep(1000)
    if 29 < size < 31:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    time.sleep(0.3)
    return 1.0 / (1.0 + abs(size - 1.1))
"""
# The first worker on this machine finds its GPU full while it opens; any other is left in peace.
FULL_GPU = """
import os, sys
if any("default_worker" in argument for argument in sys.orig_argv):
    import torch
    from mergesmith.optimizer.session.live_candidate import LiveCandidate
    plain = LiveCandidate.load
    def load(self, *arguments, **options):
        try:
            os.close(os.open({mark!r}, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return plain(self, *arguments, **options)
        raise torch.OutOfMemoryError("CUDA out of memory")
    LiveCandidate.load = load
"""
FATAL = {"kill": 10.0, "hang": 20.0, "cuda": 30.0}
HANG_S = 20  # a candidate takes 0.3 s: only one that hangs takes this long, however busy the machine is
pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]


@pytest.fixture(autouse=True)
def _paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def search(tmp_path: Path) -> Path:
    """A run of two workers whose objective knows three fatal sizes of embeddings."""
    path = write_run(
        tmp_path,
        tasks=({"name": "size", "python": "./objectives.py:score", "higher_is_better": True},),
        search={"sampler": "random", "trials": 6, "seed": 0},
        workers={"pool": "ray", "count": 2, "threads": 1, "trial_timeout": HANG_S, "grace": 20},
    )
    (tmp_path / "objectives.py").write_text(OBJECTIVE.format(unit=embedding_size(tmp_path / "base")))
    return path


def embedding_size(folder: Path) -> float:
    from safetensors.torch import load_file

    return float(load_file(folder / "model.safetensors")["model.embed_tokens.weight"].float().abs().mean())


def scaled_base(folder: Path, name: str, factor: float) -> str:
    """A recipe file of the base times a factor."""
    source = {"model": "./base", "parameters": {"weight": factor}}
    recipe = {"merge_method": "linear", "models": [source], "parameters": {"normalize": False}, "dtype": "float32"}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    return f"./{name}.yaml"


def start(search: Path, *arguments: str) -> subprocess.Popen[str]:
    """A search in a process group of its own."""
    command = [sys.executable, "-m", "mergesmith", "search", str(search), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text() if path.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_for_trials(run: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while len(lines(run / "trials.jsonl")) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_recipe_costs_two_workers_at_most(
    search: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One kills its worker, one hangs, one loses the device: each twice, then the run does without them.

    A worker that cannot open is replaced meanwhile.
    """
    (tmp_path / "sitecustomize.py").write_text(FULL_GPU.format(mark=str(tmp_path / "opened")))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    document = yaml.safe_load(search.read_text())
    document["baselines"] = [scaled_base(tmp_path, name, factor) for name, factor in FATAL.items()]
    search.write_text(yaml.safe_dump(document))
    outcome = command("search", search)
    assert outcome.code == 0, outcome.err
    trials = {trial["name"] or trial["number"]: trial for trial in lines(tmp_path / "run" / "trials.jsonl")}
    assert len(trials) == 10 + len(FATAL) + 6
    reasons = {
        "kill": "worker process has died",
        "hang": f"hung: not done after {HANG_S} s",
        "cuda": "illegal memory access",
    }
    for name, reason in reasons.items():
        trial = trials[f"{name}.yaml"]
        assert trial["state"] == "failed"
        assert trial["error"].startswith("cost 2 workers")
        assert [reason in attempt["error"] for attempt in trial["lost"] if attempt["counts"]] == [True, True], trial
        assert len({attempt["worker"] for attempt in trial["lost"]}) == len(trial["lost"])
    others = [trial for name, trial in trials.items() if name not in [f"{name}.yaml" for name in FATAL]]
    assert all(trial["state"] in ("complete", "dropped") for trial in others)
    assert all(trial["worker"] or trial["repeats"] is not None for trial in others)

    refused = [event for event in lines(tmp_path / "run" / "events.jsonl") if event.get("state") == "failed"]
    assert [event["error"] for event in refused] == ["OutOfMemoryError: CUDA out of memory"]

    again = command("search", search, "--resume", "--trials", 7)  # what killed two workers is known
    assert again.code == 0, again.err
    assert "was lost" not in again.out
    assert len(lines(tmp_path / "run" / "trials.jsonl")) == 10 + len(FATAL) + 7


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_whole_group_lets_candidates_finish(
    sent: signal.Signals, code: int, search: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(search, "--trials", "200")
    wait_for_trials(run, 12, process)
    assert not list(exposed(process.pid)), "something listens beyond loopback"
    os.killpg(process.pid, sent)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert "--resume" in output
    assert "Traceback" not in output
    asked = {event["number"] for event in lines(run / "events.jsonl") if event["event"] == "asked"}
    finished = {trial["number"] for trial in lines(run / "trials.jsonl")}
    assert asked <= finished  # nothing that was in flight is left over
    assert all(trial["state"] == "complete" for trial in lines(run / "trials.jsonl"))
    assert not list(descendants(process.pid))


def exposed(pid: int) -> list[str]:
    """Addresses other than loopback on which a process or one of its descendants listens (Linux)."""
    sockets: set[str] = set()
    for process in [pid, *descendants(pid)]:
        for entry in Path(f"/proc/{process}/fd").glob("*"):
            try:
                target = str(entry.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, state, inode = fields[1].partition(":")[0], fields[3], fields[9]
            # 127.0.0.1 as the kernel prints it, alone or mapped into IPv6; the IPv6 loopback.
            loopback = address.endswith("0100007F") or address == "00000000000000000000000001000000"
            if state == "0A" and inode in sockets and not loopback:
                found.append(line)
    return found


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and theirs (Linux)."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(folder.name))
    found, queue = [], [pid]
    while queue:
        queue += (new := children.get(queue.pop(), []))
        found += new
    return found


def test_ray_is_named_when_it_is_missing(search: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = command("search", search)
    assert outcome.code == 2
    assert "pip install 'mergesmith[ray]'" in outcome.err


def test_a_worker_that_this_machine_cannot_hold_is_a_users_mistake(search: Path, command: Command) -> None:
    import ray  # before the search does: the cluster listens on loopback nevertheless

    assert not ray.is_initialized()
    document = yaml.safe_load(search.read_text())
    document["workers"] = {"pool": "ray", "cpus_per_worker": 4096}
    search.write_text(yaml.safe_dump(document))
    outcome = command("search", search)
    assert outcome.code == 2, outcome.err
    assert "4096 CPU each; the cluster has" in outcome.err


def test_an_address_without_a_cluster_is_a_users_mistake(search: Path, command: Command) -> None:
    document = yaml.safe_load(search.read_text())
    document["workers"] = {"pool": "ray", "address": "127.0.0.1:1"}
    search.write_text(yaml.safe_dump(document))
    outcome = command("search", search)
    assert outcome.code == 2, outcome.err
    assert "no Ray cluster at '127.0.0.1:1'" in outcome.err
    assert "Traceback" not in outcome.err

"""A whole search on Ray while workers, nodes and drivers die: no trial is lost, none is done twice.

200 trials on 3 workers over 2 nodes; by a seeded schedule ten workers are killed, a node leaves, another one joins, and
the driver is killed twice. Then the best recipe is verified, and the run repeated in its order by one process.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from tiny_run import write_run

TOTAL, BASELINES = 200, 10
PACE = 0.3  # seconds per candidate
OBJECTIVE = f'''
import os, time

def closeness(model, tokenizer, split):
    """How near the embeddings' mean magnitude is to a point between the models; takes its time."""
    time.sleep(float(os.environ.get("PACE", "{PACE}")))
    return 1.0 - abs(float(model.get_input_embeddings().weight.float().abs().mean()) - 0.09)
'''
pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # loopback only
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@dataclass
class Run:
    """The run under test, seen from outside."""

    search: Path
    folder: Path
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mergesmith", "search", str(self.search), "--resume"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def lines(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / name
        text = path.read_text() if path.is_file() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 180
        while len(self.lines("trials.jsonl")) < count:
            assert self.process is not None
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline, self.lines("events.jsonl")[-5:]
            time.sleep(0.05)

    def workers(self) -> list[int]:
        """The process ids of the workers that are ready, as the present driver knows them."""
        return [event["pid"] for event in self.ready()]

    def wait_for_worker_on(self, node: str) -> None:
        deadline = time.monotonic() + 60
        while node not in [event["node"] for event in self.ready()]:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def ready(self) -> list[dict[str, Any]]:
        ready: dict[str, dict[str, Any]] = {}
        for event in self.lines("events.jsonl"):
            if event["event"] == "driver":
                ready.clear()
            elif event["event"] == "worker":
                ready.pop(event["name"], None)
                if event["state"] == "ready":
                    ready[event["name"]] = event
        return list(ready.values())

    def kill_worker(self, rng: random.Random) -> None:
        deadline = time.monotonic() + 60
        while not (pids := self.workers()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(rng.choice(pids), signal.SIGKILL)


def schedule(rng: random.Random) -> list[tuple[int, str]]:
    """(after so many finished trials, what happens), in order."""
    kills = [(count, "worker") for count in rng.sample(range(15, 185), 10)]
    return sorted([*kills, (45, "driver"), (75, "node leaves"), (100, "node joins"), (140, "driver")])


def test_nothing_is_lost_and_nothing_done_twice(tmp_path: Path, cluster: Any) -> None:
    (tmp_path / "objectives.py").write_text(OBJECTIVE)
    search = write_run(
        tmp_path,
        tasks=("mc", {"name": "closeness", "python": "./objectives.py:closeness", "higher_is_better": True}),
        search={"sampler": "tpe", "trials": TOTAL - BASELINES, "seed": 4, "racing": False},
        workers={"pool": "ray", "address": cluster.address, "threads": 1},
    )
    cluster.add_node(num_cpus=2)
    leaving = cluster.add_node(num_cpus=1)
    rng = random.Random(7)
    run = Run(search, tmp_path / "run")
    began = time.monotonic()
    run.start()
    joined, newcomer = 0.0, ""
    for count, what in schedule(rng):
        run.wait_for(count)
        if what == "worker":
            run.kill_worker(rng)
        elif what == "driver":
            run.kill()
            run.start()
        elif what == "node leaves":
            run.wait_for_worker_on(leaving.node_id)
            cluster.remove_node(leaving, allow_graceful=False)
        else:
            joined = time.time()
            newcomer = cluster.add_node(num_cpus=1).node_id
    assert run.process is not None
    output, _ = run.process.communicate(timeout=180)
    assert run.process.returncode == 0, output
    print(f"{TOTAL} trials in {time.monotonic() - began:.0f} s")

    trials, events = run.lines("trials.jsonl"), run.lines("events.jsonl")
    assert Counter(trial["number"] for trial in trials) == Counter(range(TOTAL))
    unfinished = [trial for trial in trials if trial["state"] == "failed"]
    assert all(trial["error"].startswith("cost 2 workers") for trial in unfinished)
    assert len(unfinished) <= 2  # the same candidate may be hit twice

    lost = [event for event in events if event["event"] == "lost"]
    assert any(event["counts"] for event in lost)
    assert any(not event["counts"] for event in lost)  # the leaving node's, of which no candidate is to blame
    for event in lost:  # every loss of a candidate that was finished stands in its line
        trial = next(trial for trial in trials if trial["number"] == event["number"])
        assert any(attempt["worker"] == event["worker"] for attempt in trial["lost"]), event
    ready = [event for event in events if event["event"] == "worker" and event["state"] == "ready"]
    on_new_node = [event["at"] - joined for event in ready if event["node"] == newcomer]
    assert on_new_node
    assert min(on_new_node) < 60
    print(f"{len(lost)} candidates lost their worker; the new node was at work after {min(on_new_node):.0f} s")

    verify = subprocess.run(
        [sys.executable, "-m", "mergesmith", "verify", str(run.folder / "best.yaml")], capture_output=True, text=True
    )
    assert verify.returncode == 0, verify.stderr + verify.stdout
    replay = subprocess.run(
        [sys.executable, "-m", "mergesmith", "replay", str(run.folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PACE": "0"},
    )
    assert replay.returncode == 0, replay.stderr + replay.stdout
    assert "proposals, scores and decisions are the same" in replay.stdout

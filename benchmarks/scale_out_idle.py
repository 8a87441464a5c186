"""How long workers wait for the driver: a search on Ray, on a cluster of its own on loopback."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scale_out_run import ROOT, write_search

WORKERS = 4
OBJECTIVE = '''
import hashlib, time

def closeness(model, tokenizer, split):
    """How near the embeddings' mean magnitude is to a point between the models; takes 0.5 to 1.5 s, by the weights."""
    weights = model.get_input_embeddings().weight.detach().float()
    digest = hashlib.sha256(weights.numpy().tobytes()).digest()
    time.sleep(0.5 + int.from_bytes(digest[:4], "little") / 2**32)
    return 1.0 - abs(float(weights.abs().mean()) - 0.09)
'''


@dataclass(frozen=True)
class Idle:
    """What a run on workers came to in the window in which all of them could be at work.

    Attributes:
        share: of the workers' time in the window, the part without a candidate.
        window: seconds.
        finished: candidates that ended in it.
        seconds: that they took: the 5th and 95th percentile.
    """

    share: float
    window: float
    finished: int
    seconds: tuple[float, float]


def idle_time(folder: Path, trials: int) -> Idle:
    """Search with so many proposals, and read from the run how long its workers waited."""
    task = {"name": "closeness", "python": "./objectives.py:closeness", "higher_is_better": True}
    workers = {"pool": "ray", "count": WORKERS, "gpus_per_worker": 0, "threads": 1}
    settings = {"sampler": "tpe", "trials": trials, "seed": 0}
    search = write_search(folder, [task], search=settings, workers=workers)
    (folder / "objectives.py").write_text(OBJECTIVE)
    run_program("search", search)
    return idle_in(folder / "run")


def run_program(*arguments: object) -> None:
    """A command of mergesmith, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "mergesmith", *map(str, arguments)], capture_output=True, text=True, env=environment()
    )
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)


def environment() -> dict[str, str]:
    """For a process that uses this checkout, no network and one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def idle_in(run: Path) -> Idle:
    """From when all workers were ready and the baselines, which compile kernels, were done to when the last was asked.

    A candidate keeps its worker busy for its seconds of merging and scoring, up to when the driver wrote it down.
    """
    trials = {trial["number"]: trial for trial in lines(run / "trials.jsonl")}
    events = lines(run / "events.jsonl")
    ends = {event["number"]: event["at"] for event in events if event["event"] == "finished"}
    spans = {
        number: (end - sum(trials[number]["seconds"].values()), end)
        for number, end in ends.items()
        if trials[number]["repeats"] is None
    }
    ready = [event["at"] for event in events if event["event"] == "worker" and event["state"] == "ready"]
    start = max(*ready[:WORKERS], *(ends[number] for number, trial in trials.items() if trial["name"]))
    stop = max(event["at"] for event in events if event["event"] == "asked")
    busy = sum(max(0.0, min(b, stop) - max(a, start)) for a, b in spans.values())
    inside = [b - a for a, b in spans.values() if start <= b <= stop]
    cuts = statistics.quantiles(inside, n=20)
    return Idle(1 - busy / (WORKERS * (stop - start)), stop - start, len(inside), (cuts[0], cuts[-1]))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

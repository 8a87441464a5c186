"""Kills a search with SIGKILL at random moments, resumes it until it ends, and compares it with an undisturbed run.

    python benchmarks/kill.py WORK [--kills 100] [--seed 0] [--ray] [--minutes 60]

The moments are spread over all phases of a run (opening, baselines, every stage with its probes, control, select,
report): each kill waits for a phase and then for a random part of the time that it took the undisturbed run. After
every kill, all lines of trials.jsonl that were complete before are still there, unchanged. A run that ended has the
trials of the undisturbed run, each once, without the keys of `TIMES`, and the same best.yaml byte for byte: both runs
have the same path, one after the other. With `--ray` there are two workers, so the order of trials depends on their
speed; there the run is replayed instead, and the replay must be equal.

Processes are forked from one that has imported everything, so that a resumption takes a second.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMES = ("seconds",)  # of a trial; and of verdict.json: control.seconds, control.search_seconds
PHASES = ("opening", "baselines", "line", "soup", "survey", "descent", "transfer", "refine")
PHASES += ("control", "select", "report", "ended")
POLL_S = 0.003
TRAILING_BYTES = 20_000  # of events.jsonl, enough for the last proposal
Lines = dict[str, list[dict[str, Any]]]


def phase(run: Path) -> str:
    """The phase that a run is in, from its files."""
    if (run / "best.yaml").is_file():
        return "ended"
    if (run / "looks.json").is_file():
        return "report"
    if any((run / "items").glob("*-select.npz")):
        return "select"
    if (run / "control" / "search.yaml").is_file():
        return "control"
    if not (run / "trials.jsonl").is_file():
        return "opening"
    with (run / "events.jsonl").open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TRAILING_BYTES))
        lines = file.read().split(b"\n")[1:-1]
    stages = [event.get("stage") for line in lines if (event := json.loads(line))["event"] == "asked"]
    return stages[-1] if stages else "baselines"


def trials(run: Path) -> Lines:
    """The complete lines of the run's and its control's trials.jsonl."""
    found: Lines = {}
    for folder in (run, run / "control"):
        path = folder / "trials.jsonl"
        text = path.read_bytes() if path.is_file() else b""
        records = [json.loads(line) for line in text.split(b"\n")[:-1]]
        found[folder.name] = [{k: v for k, v in record.items() if k not in TIMES} for record in records]
    return found


def verdict(run: Path) -> dict[str, Any]:
    """The content of verdict.json without times."""
    document = json.loads((run / "verdict.json").read_text())
    for name in ("seconds", "search_seconds"):
        del document["control"][name]
    return document


def start(arguments: Sequence[object], log: Path) -> int:
    """`mergesmith ARGUMENTS` in a forked process whose output is added to `log`; return the process's id."""
    child = os.fork()
    if child:
        with suppress(OSError):  # it has done so itself, or has ended
            os.setpgid(child, child)
        return child
    import sys

    from mergesmith.optimizer.commands.cli import main

    code = 1
    try:
        with suppress(OSError):
            os.setpgid(0, 0)  # as its parent does: whoever comes first
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for descriptor in (1, 2):
            os.dup2(file, descriptor)
        sys.argv = ["mergesmith", *map(str, arguments)]
        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def ended(child: int) -> int | None:
    """The exit code of a process; None while it runs."""
    pid, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def wait_for(child: int, until: Callable[[], bool]) -> int | None:
    """Wait until a condition holds, or the process has ended; return its exit code then."""
    while (code := ended(child)) is None and not until():
        time.sleep(POLL_S)
    return code


@dataclass
class Outcome:
    """What was found: kills by phase, and faults in words."""

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    faults: list[str] = field(default_factory=list)


def undisturbed(search: Path, run: Path, log: Path) -> tuple[Path, dict[str, float]]:
    """Run a search to its end; return where its folder is now, and how long each phase took."""
    child = start(["search", search, "--output", run], log)
    began: dict[str, float] = {"opening": time.monotonic()}

    def watch() -> bool:
        began.setdefault(phase(run) if run.is_dir() else "opening", time.monotonic())
        return False

    if code := wait_for(child, watch):
        raise SystemExit(f"the undisturbed run ended with code {code}; see {log}")
    moments = [*began.values(), time.monotonic()]
    whole = run.with_name("whole")
    run.rename(whole)
    return whole, {name: moments[i + 1] - at for i, (name, at) in enumerate(began.items())}


def killed_run(search: Path, run: Path, log: Path, durations: dict[str, float], rng: random.Random) -> Outcome:
    """One run, killed again and again until it has ended."""
    outcome, before = Outcome(runs=1), {"control": [], run.name: []}
    while True:
        child = start(["search", search, "--output", run, "--resume"], log)
        now = PHASES.index(phase(run) if run.is_dir() else "opening")
        ahead = [name for name in PHASES[max(now, 1) :] if name in durations][:2]
        goal = rng.choice(["opening", *ahead])
        if goal != "opening":
            code = wait_for(child, lambda goal=goal: PHASES.index(phase(run)) >= PHASES.index(goal))
        else:
            code = None
        moment = time.monotonic() + rng.random() * durations[goal] * 1.2
        if code is None and (code := wait_for(child, lambda moment=moment: time.monotonic() >= moment)) is None:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            outcome.kills[phase(run) if run.is_dir() else "opening"] += 1
            after = trials(run)
            for name, lines in before.items():
                if after[name][: len(lines)] != lines:
                    outcome.faults.append(f"finished trials of {name} were lost or changed")
            before = after
        elif code:
            outcome.faults.append(f"a session ended with code {code}; see {log}")
            return outcome
        else:
            return outcome


def compare(run: Path, whole: Path) -> list[str]:
    """The faults of a run that was killed, beside the undisturbed one."""
    faults = duplicates(run)
    here, there = trials(run), trials(whole)
    for name, other in ((run.name, whole.name), ("control", "control")):
        if here[name] != there[other]:
            different = [a["number"] for a, b in zip(here[name], there[other], strict=False) if a != b]
            faults.append(f"trials of {name} differ: {len(here[name])} of {len(there[other])}, first {different[:3]}")
    if (run / "best.yaml").read_bytes() != (whole / "best.yaml").read_bytes():
        faults.append("best.yaml differs")
    if verdict(run) != verdict(whole):
        faults.append("verdict.json differs")
    return faults


def duplicates(run: Path) -> list[str]:
    """The faults in the numbers of the trials."""
    numbers = {name: [line["number"] for line in lines] for name, lines in trials(run).items()}
    return [
        f"numbers of {name}: {len(found)} trials, {len(set(found))} numbers up to {max(found, default=-1)}"
        for name, found in numbers.items()
        if sorted(found) != list(range(len(found)))
    ]


def replayed(run: Path, log: Path) -> list[str]:
    """The faults that `mergesmith replay` finds."""
    copy = run.with_name("replayed")
    shutil.rmtree(copy, ignore_errors=True)
    child = start(["replay", run, "--output", copy], log)
    return [f"the replay differs; see {log}"] if wait_for(child, lambda: False) else []


def prepare(work: Path, *, ray: bool) -> Path:
    """The demo's models, smaller, and a search of all stages with a control; return search.yaml."""
    import yaml

    from mergesmith.optimizer.demo import make_demo
    from mergesmith.optimizer.demo.zoo import DemoSize

    size = DemoSize(items=100, train_words=6000, hidden=64, layers=2, base_steps=350, tune_steps=(60, 80, 60))
    # In a process of its own: a process that has computed with several threads cannot be forked safely.
    if not (child := os.fork()):
        make_demo(work / "demo", log=print, size=size)
        os._exit(0)
    os.waitpid(child, 0)
    document = yaml.safe_load((work / "demo" / "search.yaml").read_text())
    document["search"] |= {"trials": 24, "control": "random", "reuse_baselines": False}
    if ray:
        document["workers"] = {"pool": "ray", "count": 2, "threads": 1}
    path = work / "demo" / f"kill-{'ray' if ray else 'local'}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def import_everything() -> None:
    """Import what a search needs, before processes are forked."""
    for name in ("lm_eval.tasks", "numba", "optuna", "transformers", "mergesmith.optimizer.commands.replay"):
        importlib.import_module(name)
    importlib.import_module("mergesmith.optimizer.commands.driver")


def main() -> None:
    """Kill as often as asked for, and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no other run after this time")
    parser.add_argument("--ray", action="store_true")
    asked = parser.parse_args()
    work, rng, began = asked.work.resolve(), random.Random(asked.seed), time.monotonic()
    work.mkdir(parents=True, exist_ok=True)
    search, log, run = prepare(work, ray=asked.ray), work / "log.txt", work / "run"
    for folder in (run, run.with_name("whole")):
        shutil.rmtree(folder, ignore_errors=True)
    import_everything()
    whole, durations = undisturbed(search, run, log)
    print("phases of the undisturbed run:", {name: round(s, 2) for name, s in durations.items()}, flush=True)
    total = Outcome()
    while sum(total.kills.values()) < asked.kills and time.monotonic() - began < 60 * asked.minutes:
        found = killed_run(search, run, log, durations, rng)
        found.faults += [*duplicates(run), *replayed(run, log)] if asked.ray else compare(run, whole)
        total = Outcome(total.kills + found.kills, total.runs + 1, total.faults + found.faults)
        print(f"{sum(total.kills.values())} kills in {total.runs} runs; faults: {found.faults}", flush=True)
        shutil.rmtree(run) if not found.faults else run.rename(work / f"faulty-{total.runs}")
    print(f"{sum(total.kills.values())} kills, {total.runs} runs, {len(total.faults)} faults")
    print("by phase:", {name: total.kills[name] for name in PHASES if total.kills[name]})


if __name__ == "__main__":
    main()

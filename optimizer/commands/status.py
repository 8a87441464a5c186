"""`mergesmith status`: shows the progress of a run from its files alone, whether its driver is running or not.

Imports neither torch nor Optuna, so that it answers at once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from mergesmith.errors import UserError

from ..run_folder.atomic_files import read_events, read_lines
from ..run_folder.file_names import BEST, CONFIG, CONTROL, EVENTS, JOURNAL, TRIALS, VERDICT, is_run
from ..run_folder.lock import Driver, driver
from ..terminal.durations import duration

RECENT = 50  # trials over which the pace is measured
MOST = 8  # lines printed per kind of entry
Line = Mapping[str, Any]


@dataclass(frozen=True)
class Status:
    """The progress of a run.

    Attributes:
        path: the run's folder.
        done: number of finished trials, including baselines; probes do not count.
        total: number of baselines and candidates in the whole run; None while the number of baselines is unknown.
        states: number of finished candidates and baselines that are "complete", "dropped", "failed"; and of all of
            them, "repeated".
        probes: number of finished probes.
        ended: why the sampler ended the search; None if it did not.
        best: label and value of the best trial so far.
        waiting: (number, age in seconds) of each candidate in flight, oldest first.
        lost: the events of attempts that ended without a result.
        workers: name -> its last event since the driver last started.
        per_hour: finished trials per hour over the recent ones; None if there are too few.
        started: Unix time at which the driver last started; None if unknown.
        idle: seconds since anything was written.
        driver: the process that drives the run, or last drove it.
        winner: label of the winner; None before the verdict.
        report: the scores on the report items and the comparisons, one line each; empty before the verdict.
        control: how far the control is, and its best candidate after the verdict; None if there is no control.
    """

    path: Path
    done: int
    total: int | None
    states: Mapping[str, int]
    probes: int
    ended: str | None
    best: tuple[str, float] | None
    waiting: Sequence[tuple[int, float]]
    lost: Sequence[Line]
    workers: Mapping[str, Line]
    per_hour: float | None
    started: float | None
    idle: float
    driver: Driver
    winner: str | None
    report: Sequence[str]
    control: str | None

    @property
    def finished(self) -> bool:
        """Whether the run is complete."""
        all_done = self.ended is not None or (self.total is not None and self.done >= self.total)
        return all_done and (self.path / BEST).is_file()

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the remaining time from the recent pace; None if unknown."""
        if self.total is None or not self.per_hour or self.ended is not None:
            return None
        return 3600 * max(0, self.total - self.done) / self.per_hour

    def to_document(self) -> dict[str, Any]:
        """Return the status as plain values."""
        document = {field.name: getattr(self, field.name) for field in fields(self)}
        document["driver"] = self.driver._asdict()
        return {**document, "finished": self.finished, "seconds_left": self.seconds_left}


def read_status(path: Path, now: float) -> Status:
    """Read the status of a run; `now` is the Unix time.

    Raises:
        UserError: there is no run, or a file of it is damaged.
    """
    if not is_run(path):
        raise UserError(f"{path} holds no run")
    holder = driver(path)  # read first: if it has ended, the files below are complete
    trials, events = read_lines(path / TRIALS, json.loads), read_events(path)
    finished = {trial["number"] for trial in trials}
    session, verdict = _session(events), _verdict(path)
    asked = {e["number"]: e["at"] for e in session if e["event"] == "asked" and e["number"] not in finished}
    probes = sum(bool(trial.get("probe")) for trial in trials)
    states = Counter(trial["state"] for trial in trials if not trial.get("probe"))
    states["repeated"] = sum(trial["repeats"] is not None for trial in trials)
    return Status(
        path=path,
        done=len(trials) - probes,
        total=_total(path, trials, events),
        states=states,
        probes=probes,
        ended=next((event["reason"] for event in events if event["event"] == "ended"), None),
        best=_best(trials, events),
        waiting=sorted(((n, max(0.0, now - at)) for n, at in asked.items()), key=lambda pair: -pair[1]),
        lost=[event for event in events if event["event"] == "lost"],
        workers={event["name"]: event for event in session if event["event"] == "worker"},
        per_hour=_per_hour(session),
        started=session[0]["at"] if session and session[0]["event"] == "driver" else None,
        idle=max(0.0, now - _last_written(path)),
        driver=holder,
        winner=None if verdict is None else verdict["winner"]["name"],
        report=() if verdict is None else _report(verdict),
        control=_control(path, verdict),
    )


def _session(events: Sequence[Line]) -> Sequence[Line]:
    """Return the events since the driver last started."""
    starts = [i for i, e in enumerate(events) if e["event"] == "driver" and e.get("state") == "started"]
    return events[starts[-1] :] if starts else events


def _total(path: Path, trials: Iterable[Line], events: Sequence[Line]) -> int | None:
    recorded = [event["baselines"] for event in events if event["event"] == "driver" and "baselines" in event]
    names = [bool(trial["name"]) for trial in trials]
    if recorded:
        baselines = recorded[-1]
    elif not all(names):  # candidates are proposed after the baselines
        baselines = sum(names)
    else:
        return None
    return baselines + _search_section(path)["trials"]


def _search_section(path: Path) -> Mapping[str, Any]:
    try:
        section = yaml.safe_load((path / CONFIG).read_text(encoding="utf-8"))["search"]
        return {"item_scores": None, **section, "trials": section["trials"]}
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f"{path / CONFIG} is damaged: {error}") from None


def _best(trials: Iterable[Line], events: Sequence[Line]) -> tuple[str, float] | None:
    """Return label and value of the best trial: as the driver recorded it, else the complete one of highest value."""
    recorded = [event for event in events if event["event"] == "best"]
    if recorded:
        return recorded[-1]["label"], recorded[-1]["value"]
    complete = [trial for trial in trials if trial["state"] == "complete" and trial["value"] is not None]
    best = max(complete, key=lambda trial: (trial["value"], -trial["number"]), default=None)
    if best is None:
        return None
    return best["name"] or f"trial {best['number']} ({best['method']})", best["value"]


def _per_hour(session: Sequence[Line]) -> float | None:
    """Return the finished trials per hour over the recent ones; None if there are too few."""
    ends = [event["at"] for event in session if event["event"] == "finished"][-RECENT - 1 :]
    if len(ends) < 2 or ends[-1] <= ends[0]:
        return None
    return 3600 * (len(ends) - 1) / (ends[-1] - ends[0])


def _last_written(path: Path) -> float:
    files = (path / name for name in (CONFIG, TRIALS, EVENTS, JOURNAL, VERDICT, BEST))
    return max(file.stat().st_mtime for file in files if file.is_file())


def _verdict(path: Path) -> Line | None:
    file = path / VERDICT
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _report(verdict: Line) -> Sequence[str]:
    lines = [f"{_scores(row)}  {row['role']}: {row['name']}" for row in verdict["report"]]
    return (*lines, *(comparison["sentence"] for comparison in verdict["comparisons"]))


def _scores(row: Line) -> str:
    tasks = ", ".join(f"{task} {score['value']:.4f}" for task, score in row["scores"].items())
    return f"{row['objective']:.4f} ({tasks})"


def _control(path: Path, verdict: Line | None) -> str | None:
    if not is_run(path / CONTROL):
        return None
    proposals = [trial for trial in read_lines(path / CONTROL / TRIALS, json.loads) if not trial["name"]]
    limit = _search_section(path / CONTROL)["item_scores"]
    spent = sum(trial["items"] for trial in proposals)
    text = f"{len(proposals)} random candidates, {spent:,} of {limit:,} item scores"
    names = [] if verdict is None else [row["name"] for row in verdict["report"] if row["role"] == "control"]
    return f"{text}; best: {names[0]}" if names else text


def print_status(status: Status, console: Console) -> None:
    """Print the status in a few lines."""
    for name, text in _rows(status):
        console.print(f"{name:<15}{text}", highlight=False, markup=False, soft_wrap=True)


def _rows(status: Status) -> Iterable[tuple[str, str]]:
    yield "run", str(status.path)
    kinds = [("complete", "complete"), ("dropped", "dropped early"), ("failed", "failed"), ("repeated", "repeated")]
    counts = ", ".join(f"{status.states[kind]} {word}" for kind, word in kinds if status.states[kind])
    of = "" if status.total is None else f" of {status.total}"
    probes = f"; {status.probes} probes" if status.probes else ""
    yield "trials", f"{status.done}{of} finished{': ' if counts else ''}{counts}{probes}"
    if status.ended is not None:
        yield "ended", f"nothing better to find: {status.ended}"
    if status.best is not None:
        yield "best so far", f"{status.best[1]:.4f} by {status.best[0]}"
    if status.per_hour is not None:
        left = status.seconds_left
        rest = f", about {duration(left)} left" if left and status.driver.running is not False else ""
        yield "pace", f"{status.per_hour:.1f} trials per hour{rest}"
    yield from _in_flight(status)
    yield from _lost(status.lost)
    yield from _workers(status)
    yield "last activity", f"{duration(status.idle)} ago"
    yield "driver", _driver(status)
    if status.control is not None:
        yield "control", status.control
    if status.winner is not None:
        best = f"; {status.path / BEST}" if (status.path / BEST).is_file() else ""
        yield "winner", f"{status.winner}{best}"
    yield from (("report", line) for line in status.report)
    if status.driver.running is False and not status.finished:
        yield "to continue", f"mergesmith search {status.path / CONFIG} --resume"


def _in_flight(status: Status) -> Iterable[tuple[str, str]]:
    if not status.waiting:
        return
    if status.driver.running is False:
        numbers = ", ".join(str(number) for number, _ in status.waiting)
        yield "was in flight", f"trial {numbers}; repeated on resume"
        return
    shown = ", ".join(f"trial {number} for {duration(age)}" for number, age in status.waiting[:MOST])
    yield "in flight", f"{len(status.waiting)}: {shown}{', ...' if len(status.waiting) > MOST else ''}"


def _lost(lost: Sequence[Line]) -> Iterable[tuple[str, str]]:
    if not lost:
        return
    yield "lost attempts", f"{len(lost)}" + (f", the last {MOST} of them:" if len(lost) > MOST else "")
    for event in lost[-MOST:]:
        at = datetime.fromtimestamp(event["at"]).strftime("%d %b %H:%M")
        worker = f" on {event['worker']}" if event.get("worker") is not None else ""
        yield "", f"{at}  trial {event['number']}{worker}: {_first_line(event.get('error'))}"


def _workers(status: Status) -> Iterable[tuple[str, str]]:
    if not status.workers:
        return
    counts = Counter(str(event.get("state")) for event in status.workers.values())
    was = "were " if status.driver.running is False else ""
    yield "workers", was + ", ".join(f"{count} {state}" for state, count in counts.items())
    gone = [(name, event) for name, event in status.workers.items() if event.get("state") != "ready"]
    for name, event in gone[-MOST:]:
        place = f" at {event['place']}" if event.get("place") else ""
        yield "", f"{name}{place} {event.get('state')}: {_first_line(event.get('error'))}"


def _driver(status: Status) -> str:
    running, driver_process = status.driver.running, status.driver
    if running:
        since = "" if status.started is None else f", started {datetime.fromtimestamp(status.started):%d %b %H:%M}"
        return f"running, {driver_process.name}{since}"
    last = "" if driver_process.pid is None else f" (last: {driver_process.name})"
    if running is None:
        return f"unknown: the lock cannot be read{last}"
    return f"finished{last}" if status.finished else f"not running{last}"


def _first_line(error: object) -> str:
    return str(error).strip().splitlines()[0] if error else "reason unknown"

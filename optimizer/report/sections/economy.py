"""What the search took, the health of answers and scorers, warnings, failures, and how to reproduce the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from ...run_folder.trial import Trial
from ...search.verdict.records import ControlCost
from ...terminal.durations import duration
from ...terminal.tables import saved
from ..facts import RunFacts
from ..section import Section, Table

MAX_FAILURES = 20  # that are listed
PHRASES = {
    "truncated": "cut off",
    "empty": "empty",
    "unextracted": "nothing extracted",
    "length": "mean length, tokens",
}


def section(facts: RunFacts) -> Section:
    """Return the last section."""
    failed = [trial for trial in facts.trials if trial.failed]
    verdict = facts.verdict or {}
    content = {
        "saved": saved(facts.trials) if facts.candidates else "",
        "racing": _racing(facts),
        "control": ControlCost(**verdict["control"]).sentence if verdict.get("control") else "",
        "time": _time(facts.trials),
        "stages": _stages(verdict.get("stages") or [e for e in facts.events if e["event"] == "stage"]),
        "workers": _workers(facts),
        "answers": _answers(verdict.get("report", [])),
        "check": facts.scoring.get("check", []),
        "warnings": [*facts.sanity.get("warnings", []), *verdict.get("warnings", [])],
        "failures": [f"{trial.label}: {trial.error}" for trial in failed[:MAX_FAILURES]],
        "more_failures": max(0, len(failed) - MAX_FAILURES),
        "lost": [f"trial {e['number']} on {e['worker']}: {e['error']}" for e in facts.events if e["event"] == "lost"],
        "environment": _environment(facts),
        "finished": facts.recipe is not None,
        "name": facts.name,
        "digests": list(_digests(facts)),
    }
    return Section("economy", "Economy, health, reproduction", content)


def _racing(facts: RunFacts) -> str:
    raced = [trial for trial in facts.candidates if trial.looks]
    dropped = [trial for trial in raced if trial.dropped]
    if not raced:
        return "No candidate was raced."
    text = f"{len(raced):,} candidates were raced, {len(dropped):,} of them dropped"
    return f"{text} after {median(t.items for t in dropped):,.0f} items in the median." if dropped else f"{text}."


def _time(trials: Sequence[Trial]) -> Table:
    kinds = (
        ("baselines", [trial for trial in trials if trial.name]),
        ("candidates", [trial for trial in trials if not trial.name and not trial.probe]),
        ("probes", [trial for trial in trials if trial.probe]),
    )
    rows = [
        [
            kind,
            f"{len(found):,}",
            f"{sum(trial.items for trial in found):,}",
            duration(sum(trial.merge_seconds for trial in found)),
            duration(sum(trial.score_seconds for trial in found)),
        ]
        for kind, found in kinds
        if found
    ]
    return Table(["part", "trials", "item scores", "merging", "scoring"], rows, ["part"])


def _stages(stages: Sequence[Any]) -> Table | None:
    columns = ["stage", "candidates", "probes", "item scores", "best", "gain", "ended"]
    rows = [
        [
            stage["name"],
            str(stage["candidates"] or ""),
            str(stage["probes"] or ""),
            f"{stage['items']:,}" if stage["items"] else "",
            "" if stage["best"] is None else f"{stage['best']:.4f}",
            "" if stage["gain"] is None else f"{stage['gain']:+.4f}",
            stage["reason"],
        ]
        for stage in stages
    ]
    return Table(columns, rows, ["stage", "ended"]) if rows else None


def _workers(facts: RunFacts) -> Table | None:
    """Return what each worker did; None if the driver scored everything itself."""
    names = Counter(trial.worker for trial in facts.trials if trial.worker)
    seconds: Counter[str] = Counter()
    for trial in facts.trials:
        seconds[trial.worker] += round(trial.merge_seconds + trial.score_seconds)
    rows = [[name, f"{count:,}", duration(seconds[name])] for name, count in sorted(names.items())]
    return Table(["worker", "trials", "busy"], rows, ["worker"]) if rows else None


def _answers(report: Sequence[Any]) -> Table | None:
    """Return the rates of generated answers on the report items."""
    rows = [
        [row["name"], task, *(_rate(fact, rates[fact]) for fact in PHRASES)]
        for row in report
        for task, rates in row["answers"].items()
    ]
    return Table(["model", "task", *PHRASES.values()], rows, ["model", "task"]) if rows else None


def _rate(fact: str, value: float) -> str:
    return f"{value:.1f}" if fact == "length" else f"{value:.0%}"


def _environment(facts: RunFacts) -> Table:
    found = facts.environment
    rows = [[name, str(found[name])] for name in ("python", "system", "device") if name in found]
    rows += [[name, str(version)] for name, version in found.get("versions", {}).items()]
    search = facts.config.search
    rows += [["sampler", search.sampler], ["seed", str(search.seed)]]
    return Table(["name", "value"], rows, ["name", "value"])


def _digests(facts: RunFacts) -> Iterator[str]:
    """Yield the lines of best.yaml that name the digests of weights and recipe."""
    for line in (facts.recipe or "").splitlines():
        if line.startswith(("  weights_digest:", "  recipe_digest:")):
            yield line.strip()

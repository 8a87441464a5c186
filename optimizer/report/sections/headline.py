"""The verdict in one sentence, what it cost, and the scores on the report items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone

from ...terminal.durations import duration
from ...terminal.score_table import number
from ...terminal.tables import saved
from ..facts import Document, RunFacts
from ..section import Section, Table

NAN = float("nan")


def section(facts: RunFacts) -> Section:
    """Return the first section."""
    sentence, mood = _sentence(facts)
    verdict = facts.verdict
    content = {
        "sentence": sentence,
        "mood": mood,
        "finished": verdict is not None,
        "others": [text for c in (verdict or {}).get("comparisons", []) if (text := c["sentence"]) != sentence],
        "cards": list(_cards(facts)),
        "table": _table(facts),
        "cost": saved(facts.trials) if facts.candidates else "",
    }
    return Section("headline", f"Search for a merge of {len(facts.config.models)} models", content)


def _sentence(facts: RunFacts) -> tuple[str, str]:
    """Return the result in one sentence, and its kind: "better", "worse", "open" or "running"."""
    verdict = facts.verdict
    if verdict is None:
        return _unfinished(facts), "running" if facts.running else "open"
    if not verdict["comparisons"] or verdict["winner"]["trial"] == verdict["best_parent"]["trial"]:
        return f"No searched candidate beat '{verdict['winner']['name']}', which is the result.", "open"
    first = verdict["comparisons"][0]
    if first["low"] is None:
        return first["sentence"], "open"
    return first["sentence"], "better" if first["low"] > 0 else "worse" if first["high"] < 0 else "open"


def _unfinished(facts: RunFacts) -> str:
    best = facts.winner
    found = "no trial has a score yet" if best is None else f"the best so far is {best.label}, {best.value:.4f}"
    if facts.running:
        return f"The search is running: {found}."
    state = "The driver's state is unknown" if facts.running is None else "The search stopped before a verdict"
    if best is None and any(trial.complete for trial in facts.trials):
        found = "no candidate keeps within every max_drop"
    return f"{state}: {found}."


def _cards(facts: RunFacts) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of the facts beside the sentence."""
    times = [event["at"] for event in facts.events]
    if times:
        yield "date", f"{datetime.fromtimestamp(times[-1], timezone.utc):%d %B %Y}"
    of = "" if facts.verdict is not None else f" of {facts.config.search.trials:,}"
    yield "candidates", f"{len(facts.candidates):,}{of}"
    yield "item scores", f"{sum(trial.items for trial in facts.proposals):,}"
    yield "merging and scoring", duration(sum(t.merge_seconds + t.score_seconds for t in facts.trials))
    if facts.verdict is not None:
        looks = facts.verdict["report_looks"]
        yield "report items used", "once" if looks == 1 else f"{looks} times"
    yield "run", facts.name


def _table(facts: RunFacts) -> Table | None:
    """Return the scores on the report items; before the verdict, those of baselines and the best on search items."""
    if facts.verdict is not None:
        rows: Sequence[Document] = facts.verdict["report"]
    else:
        best = facts.winner
        shown = [*facts.baselines, *([best] if best is not None and not best.name else [])]
        rows = [_row(facts, trial.number) for trial in shown]
    if not rows:
        return None
    tasks = list(rows[0]["scores"])
    metrics = {entry.name: entry.metric + ("" if entry.sign > 0 else ", lower is better") for entry in facts.entries}
    titles = [f"{task} ({metrics[task]})" if task in metrics else task for task in tasks]
    cells = [
        [
            _name(row),
            *(_number(row["scores"][task]["value"], row["scores"][task]["stderr"]) for task in tasks),
            _number(row["objective"], row["stderr"]),
        ]
        for row in rows
    ]
    winner = next((i for i, row in enumerate(rows) if row["role"] == "winner"), None)
    return Table(["model", *titles, "overall"], cells, ["model"], winner)


def _row(facts: RunFacts, number: int) -> Document:
    trial = facts.by_number[number]
    scores = {name: {"value": score.value, "stderr": score.stderr} for name, score in trial.scores.items()}
    stderr = NAN if facts.objective is None else facts.objective.stderr(trial.scores)
    return {"role": "", "name": trial.label, "scores": scores, "objective": trial.value, "stderr": stderr}


def _name(row: Document) -> str:
    return f"{row['role']}: {row['name']}" if row["role"] in ("winner", "control") else row["name"]


def _number(value: float | None, stderr: float | None) -> str:
    return number(NAN if value is None else value, NAN if stderr is None else stderr)

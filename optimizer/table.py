"""The result on the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..evaluators import Entry, Score
from .verdict import Verdict


def print_verdict(console: Console, verdict: Verdict, entries: Sequence[Entry], best: Path) -> None:
    """The table of the report part, and the sentences that follow from it."""
    table = score_table("Scores on the report items (± standard error)", entries)
    for row in verdict.rows:
        winner = row.role == "winner"
        name = f"winner: {row.trial.label}" if winner else row.trial.label
        add_scores(table, name, entries, row.scores, row.value, row.stderr, style="bold green" if winner else "")
    console.print(table)
    for comparison in verdict.comparisons:
        console.print(comparison.sentence, highlight=False, markup=False, soft_wrap=True)
    for warning in verdict.warnings:
        console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    if verdict.winner.name:
        console.print(
            f"No searched candidate beat the baseline '{verdict.winner.name}' on the select items: it is the result.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    times = "once" if verdict.looks == 1 else f"{verdict.looks} times"
    console.print(f"The report items of this run have been looked at {times}.", highlight=False, soft_wrap=True)
    console.print(f"Recipe: {best}", highlight=False, markup=False, soft_wrap=True)


def score_table(title: str, entries: Sequence[Entry]) -> Table:
    """An empty table: a column per task and one for the objective."""
    table = Table(title=title, title_justify="left")
    table.add_column("model", overflow="fold")
    for entry in entries:
        arrow = "" if entry.sign > 0 else " (lower is better)"
        table.add_column(f"{entry.name}\n{entry.metric}{arrow}", justify="right")
    table.add_column("overall", justify="right")
    return table


def add_scores(
    table: Table,
    name: str,
    entries: Sequence[Entry],
    scores: Mapping[str, Score],
    value: float,
    stderr: float,
    *,
    style: str = "",
) -> None:
    """One model's line."""
    cells = [number(scores[entry.name].value, scores[entry.name].stderr) for entry in entries]
    table.add_row(name, *cells, number(value, stderr), style=style)


def number(value: float, stderr: float) -> str:
    """'0.712 ± 0.023'; without the error where that is unknown, '-' where there is no value."""
    if math.isnan(value):
        return "-"
    digits = 3 if abs(value) < 100 else 1
    return f"{value:.{digits}f}" if math.isnan(stderr) else f"{value:.{digits}f} ± {stderr:.{digits}f}"

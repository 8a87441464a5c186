"""Tables of scores and items, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from ...evaluators import Score, TaskEntry
from ..run_folder.item_matrix import ItemMatrix
from ..run_folder.trial import Trial

if TYPE_CHECKING:
    from ..search.stages import StageSummary
    from ..search.verdict.records import Verdict  # imports the samplers


def print_verdict(
    console: Console, verdict: Verdict, entries: Sequence[TaskEntry], trials: Sequence[Trial], best: Path
) -> None:
    """Print the scores on the report part, the comparisons, and the cost of the search."""
    table = score_table("Scores on the report items (± standard error)", entries)
    for row in verdict.rows:
        winner = row.role == "winner"
        name = f"{row.role}: {row.trial.label}" if row.role in ("winner", "control") else row.trial.label
        add_scores(table, name, entries, row.scores, row.value, row.stderr, style="bold green" if winner else "")
    console.print(table)
    if verdict.stages:
        console.print(stages_table(verdict.stages, trials))
    for comparison in verdict.comparisons:
        console.print(comparison.sentence, highlight=False, markup=False, soft_wrap=True)
    for limit in verdict.limits:
        style = "" if limit.kept else "yellow"
        console.print(limit.sentence, style=style, highlight=False, markup=False, soft_wrap=True)
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
    console.print(saved(trials), highlight=False, markup=False, soft_wrap=True)
    if verdict.control is not None:
        console.print(verdict.control.sentence, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Recipe: {best}", highlight=False, markup=False, soft_wrap=True)


def saved(trials: Sequence[Trial]) -> str:
    """Return a sentence on how many item scores the search took, and how many racing and repeated recipes saved."""
    candidates = [trial for trial in trials if not trial.name and not trial.failed and not trial.probe]
    probes = [trial for trial in trials if trial.probe]
    whole = max((trial.items for trial in trials if trial.complete), default=0)
    scored, all_items = sum(trial.items for trial in candidates), whole * len(candidates)
    parts = [
        f"{count} {kind}"
        for count, kind in (
            (sum(trial.dropped and trial.repeats is None for trial in candidates), "dropped early"),
            (sum(trial.repeats is not None for trial in candidates), "with a recipe that was scored before"),
        )
        if count
    ]
    details = f" ({', '.join(parts)})" if parts else ""
    share = f", {1 - scored / all_items:.0%} saved" if scored < all_items else ""
    taken = sum(trial.items for trial in probes)
    more = f" {len(probes)} probes of the gold answers' loss took as much as {taken:,} more." if probes else ""
    return f"{len(candidates)} candidates{details} took {scored:,} of {all_items:,} item scores{share}.{more}"


def stages_table(stages: Sequence[StageSummary], trials: Sequence[Trial]) -> Table:
    """Return a table of what each stage took, as a share of the item scores of all proposals, and what it found."""
    spent = max(1, sum(trial.items for trial in trials if not trial.name))
    table = Table(title="Stages of the search", title_justify="left")
    for column in ("stage", "candidates", "probes", "item scores", "best", "gain", "ended"):
        table.add_column(column, justify="left" if column in ("stage", "ended") else "right")
    for stage in stages:
        best = "" if stage.best is None else f"{stage.best:.4f}"
        gain = "" if stage.gain is None else f"{stage.gain:+.4f}"
        probes = str(stage.probes or "")
        items = f"{stage.items:,} ({stage.items / spent:.0%})" if stage.items else ""
        table.add_row(stage.name, str(stage.candidates or ""), probes, items, best, gain, stage.reason)
    return table


def items_table(matrix: ItemMatrix, most: int) -> Table:
    """Return a table of how well a run's items separate its candidates, with a row per task."""
    table = Table(title=f"{len(matrix.ids)} items, {len(matrix.trials)} candidates", title_justify="left")
    for column in ("task", "items", "scores", "mean", "same for all", "most telling items (correlation)"):
        table.add_column(column, justify="left" if column[0] in "tm" and column != "mean" else "right")
    alike, telling = matrix.alike(), np.nan_to_num(matrix.telling(), nan=-2.0)
    for leaf in dict.fromkeys(matrix.leaves):
        places = np.array([i for i, name in enumerate(matrix.leaves) if name == leaf])
        values = matrix.values[:, places]
        best = places[np.argsort(-telling[places], kind="stable")][:most]
        named = ", ".join(f"{matrix.ids[i]} ({telling[i]:.2f})" for i in best if telling[i] > 0)
        scored, mean = int(np.isfinite(values).sum()), f"{np.nanmean(values):.3f}"
        table.add_row(leaf, str(len(places)), f"{scored:,}", mean, f"{alike[places].mean():.0%}", named)
    return table


def score_table(title: str, entries: Sequence[TaskEntry]) -> Table:
    """Return an empty table with a column per task and one for the objective."""
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
    entries: Sequence[TaskEntry],
    scores: Mapping[str, Score],
    value: float,
    stderr: float,
    *,
    style: str = "",
) -> None:
    """Add a model's row."""
    cells = [number(scores[entry.name].value, scores[entry.name].stderr) for entry in entries]
    table.add_row(name, *cells, number(value, stderr), style=style)


def number(value: float, stderr: float) -> str:
    """Return text such as '0.712 ± 0.023'; without the error if it is NaN, '-' if the value is NaN."""
    if math.isnan(value):
        return "-"
    digits = 3 if abs(value) < 100 else 1
    return f"{value:.{digits}f}" if math.isnan(stderr) else f"{value:.{digits}f} ± {stderr:.{digits}f}"

"""Tables of scores and items, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from ...evaluators import TaskEntry
from ..run_folder.item_matrix import ItemMatrix
from ..run_folder.trial import Trial, items_spent
from .console import print_warnings, say
from .score_table import ScoreTable

if TYPE_CHECKING:
    from ..search.stages import StageSummary
    from ..search.verdict.records import Verdict  # imports the samplers


def print_verdict(
    console: Console, verdict: Verdict, entries: Sequence[TaskEntry], trials: Sequence[Trial], best: Path
) -> None:
    """Print the scores on the report part, the comparisons, and the cost of the search."""
    table = ScoreTable("Scores on the report items", entries, console)
    for row in verdict.rows:
        winner = row.role == "winner"
        name = f"{row.role}: {row.trial.label}" if row.role in ("winner", "control") else row.trial.label
        table.add(name, row.scores, row.value, row.stderr, style="bold green" if winner else "")
    table.print()
    if verdict.stages:
        console.print(stages_table(verdict.stages, trials))
    for comparison in verdict.comparisons:
        say(console, comparison.sentence)
    for limit in verdict.limits:
        style = "" if limit.kept else "yellow"
        say(console, limit.sentence, style)
    print_warnings(verdict.warnings)
    if verdict.winner.name:
        say(
            console,
            f"No searched candidate beat the baseline '{verdict.winner.name}' on the select items: it is the result.",
        )
    times = "once" if verdict.looks == 1 else f"{verdict.looks} times"
    say(console, f"The report items of this run have been looked at {times}.")
    say(console, saved(trials))
    if verdict.control is not None:
        say(console, verdict.control.sentence)
    console.print(f"Recipe: {best}", highlight=False, markup=False, soft_wrap=True)  # may be copied


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
    spent = max(1, items_spent(trials))
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

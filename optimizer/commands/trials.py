"""`mergesmith trials`: lists the finished trials of a run."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..run_folder.run_folder import RunFolder
from ..run_folder.trial_row import trial_row

SCORE = "score_"  # prefix of the columns of tasks


def trial_rows(path: Path) -> list[dict[str, Any]]:
    """Return the trials of a run as rows, in the order of their numbers; `trial_row` describes the columns.

    Raises:
        UserError: the folder holds no run, or its record is damaged.
    """
    trials = RunFolder.open(path).trials()
    return [trial_row(trial) for trial in sorted(trials, key=lambda trial: trial.number)]


def print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as comma-separated values, with a header line and empty cells for what a row lacks."""
    columns = dict.fromkeys(column for row in rows for column in row)
    writer = csv.DictWriter(sys.stdout, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def print_trials(path: Path, console: Console) -> None:
    """Print a table of the trials: their scores, not their parameters.

    Raises:
        UserError: as `trial_rows`.
    """
    rows = trial_rows(path)
    tasks = dict.fromkeys(column for row in rows for column in row if column.startswith(SCORE))
    table = Table(title=f"{len(rows)} trials", title_justify="left")
    for column in ("trial", "state", "stage"):
        table.add_column(column)
    for column in ("overall", *(task.removeprefix(SCORE) for task in tasks), "items"):
        table.add_column(column, justify="right")
    for row in rows:
        scores = [_number(row.get(column)) for column in ("value", *tasks)]
        table.add_row(str(row["label"]), row["state"], row["stage"] or "", *scores, str(row["items"]))
    console.print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"

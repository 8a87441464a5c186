"""A table of models' scores that is readable at 80 columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from ...evaluators import Score, TaskEntry

WIDE = 100  # columns from which every score has its standard error; below, only the overall one
NUMBER = len("0.805 ± 0.026")


class ScoreTable:
    """A table with a row per model, a column per task, and one for the objective."""

    def __init__(self, title: str, entries: Sequence[TaskEntry], console: Console) -> None:
        self.console, self.entries, self.wide = console, entries, console.width >= WIDE
        self._table = Table(title=f"{title} (± standard error)", title_justify="left")
        self._table.add_column("model", overflow="fold", ratio=1, min_width=16)
        for entry in entries:
            arrow = "" if entry.sign > 0 else " (lower is better)"
            width = NUMBER if self.wide else len("0.805")
            self._table.add_column(f"{entry.name}\n{entry.metric}{arrow}", justify="right", min_width=width)
        self._table.add_column("overall", justify="right", min_width=NUMBER)

    def add(self, name: str, scores: Mapping[str, Score], value: float, stderr: float, *, style: str = "") -> None:
        """Add a model's row."""
        of_tasks = (scores[entry.name] for entry in self.entries)
        cells = [number(score.value, score.stderr if self.wide else math.nan) for score in of_tasks]
        self._table.add_row(name, *cells, number(value, stderr), style=style)

    def print(self) -> None:
        """Print the table."""
        self.console.print(self._table)


def number(value: float, stderr: float) -> str:
    """Return text such as '0.712 ± 0.023'; without the error if it is NaN, '-' if the value is NaN."""
    if math.isnan(value):
        return "-"
    digits = 3 if abs(value) < 100 else 1
    return f"{value:.{digits}f}" if math.isnan(stderr) else f"{value:.{digits}f} ± {stderr:.{digits}f}"

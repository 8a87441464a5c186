"""The progress of a running search: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from ..run_folder.trial import Trial
from .console import is_quiet
from .durations import duration
from .pace import Pace

WIDE = 100  # columns from which the bar has its full width


class Report:
    """Shows the progress of a search; a context manager. Plain lines are at least `every` seconds apart.

    On a terminal, bar, count and times keep their place; what does not fit of the rest is cut off.
    """

    def __init__(self, console: Console, *, title: str = "search", every: float = 5.0) -> None:
        self.console, self.every = console, every
        self.pace = Pace()
        self.done = self.total = self.dropped = 0
        self._items_left: int | None = None
        self._workers = ""
        self._last_line = -every
        self._bar = Progress(
            TextColumn(f"[bold]{title}"),
            BarColumn(bar_width=24 if console.width >= WIDE else 10),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=console,
            transient=True,
            expand=True,
            disable=is_quiet() or not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Report:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, done: int, total: int, dropped: int, *, items_left: int | None = None) -> None:
        """Show the state at the start: `done` of `total` trials are finished, `dropped` of them were dropped early.

        `items_left`: how many item scores may still be spent; None without a limit.
        """
        self.done, self.total, self.dropped, self._items_left = done, total, dropped, items_left
        self._bar.update(self._task, completed=done, total=None if items_left is not None else total)

    def expect_afterwards(self, items: int) -> None:
        """Count `items` item scores that follow the search as time left."""
        self.pace.items_after = items

    def workers(self, ready: int, wanted: int) -> None:
        """Show how many workers are ready, if more than one is wanted."""
        self._workers = f"{ready}/{wanted} workers" if wanted > 1 else ""

    def block(self, items: int) -> None:
        """Count the items of a scored block."""
        self.pace.block(items)

    def finished(self, trial: Trial, best: Trial | None) -> None:
        """Show the end of a trial and the best trial so far."""
        self.done += not trial.probe
        self.dropped += trial.dropped
        self.pace.finished(candidate=not trial.name and not trial.probe)
        if self._items_left is not None and not trial.name:
            self._items_left -= trial.items
        seconds = self.pace.seconds_left(self.total - self.done, self._items_left)
        left = "" if seconds is None else f"{duration(seconds)} left"
        found = best is not None and best.value is not None
        dropped = f"{self.dropped} dropped early" if self.dropped else ""
        stage = f"stage {trial.stage}" if trial.stage else ""
        rate = self.pace.items_per_second
        speed = f"{rate:.0f} items/s" if rate else ""
        short = f"best {best.value:.3f} ({best.number})" if found and best is not None else ""
        state = ", ".join(filter(None, (left, short, self._workers, dropped, stage, speed)))
        self._bar.update(self._task, completed=self.done, description=state)
        if trial.error is not None:
            self.announce(f"{trial.label} failed: {trial.error}")
        last = self.done == self.total
        if not self.console.is_terminal and (last or time.monotonic() - self._last_line >= self.every):
            self._last_line = time.monotonic()
            long = f"best {best.value:.4f} by {best.label}" if found and best is not None else ""
            self.announce(", ".join(filter(None, (self._count, stage, long, dropped, self._workers, speed, left))))

    @property
    def _count(self) -> str:
        """Text such as '12/40 trials'; without the total if the item scores may end the search earlier."""
        return f"{self.done}/{self.total} trials" if self._items_left is None else f"{self.done} trials"

    def announce(self, message: str) -> None:
        """Print a line, unless only results are printed."""
        if not is_quiet():
            self.console.print(message, highlight=False, markup=False, soft_wrap=True)

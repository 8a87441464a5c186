"""The progress of a running search: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..run_folder.trial import Trial
from .durations import duration

RECENT = 20  # trials over which speed is measured


class Pace:
    """Items per second and remaining time, from the recent trials."""

    def __init__(self) -> None:
        self.ends: deque[float] = deque([time.monotonic()], maxlen=RECENT + 1)
        self.items: deque[int] = deque(maxlen=RECENT)
        self._current = 0

    def block(self, items: int) -> None:
        """Count the items of a scored block."""
        self._current += items

    def finished(self) -> None:
        """Record the end of a trial."""
        self.ends.append(time.monotonic())
        self.items.append(self._current)
        self._current = 0

    def text(self, left: int, items_left: int | None) -> str:
        """Return text such as '812 items/s, 1 min 20 s left', from the remaining trials and item scores."""
        seconds = self.ends[-1] - self.ends[0]
        if not self.items or seconds <= 0:
            return ""
        scored = sum(self.items)
        time_left = left * seconds / len(self.items)
        if items_left is not None and scored:
            time_left = min(time_left, max(0, items_left) * seconds / scored)
        return f"{scored / seconds:.0f} items/s, {duration(time_left)} left"


class Report:
    """Shows the progress of a search; a context manager. Plain lines are at least `every` seconds apart."""

    def __init__(self, console: Console, *, title: str = "search", every: float = 5.0) -> None:
        self.console, self.every = console, every
        self.pace = Pace()
        self.done = self.total = self.dropped = 0
        self._items_left: int | None = None
        self._workers = ""
        self._last_line = -every
        self._bar = Progress(
            TextColumn(f"[bold]{title}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
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
        self.pace.finished()
        best_so_far = "" if best is None or best.value is None else f"best {best.value:.4f} by {best.label}"
        dropped = f"{self.dropped} dropped early" if self.dropped else ""
        stage = f"stage {trial.stage}" if trial.stage else ""
        if self._items_left is not None and not trial.name:
            self._items_left -= trial.items
        pace = self.pace.text(self.total - self.done, self._items_left)
        state = ", ".join(filter(None, (stage, best_so_far, dropped, self._workers, pace)))
        self._bar.update(self._task, completed=self.done, description=state)
        if trial.error is not None:
            self.announce(f"{trial.label} failed: {trial.error}")
        last = self.done == self.total
        if not self.console.is_terminal and (last or time.monotonic() - self._last_line >= self.every):
            self._last_line = time.monotonic()
            self.announce(", ".join(filter(None, (self._count, state))))

    @property
    def _count(self) -> str:
        """Text such as '12/40 trials'; without the total if the item scores may end the search earlier."""
        return f"{self.done}/{self.total} trials" if self._items_left is None else f"{self.done} trials"

    def announce(self, message: str) -> None:
        """Print a line."""
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

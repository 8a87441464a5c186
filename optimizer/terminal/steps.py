"""The progress of a phase that takes the same step again and again, such as scoring one model after another."""

from __future__ import annotations

import time
from collections.abc import Callable

from .durations import duration


class Steps:
    """Prints lines such as 'report items: 3/8 models, about 12 s left', at least `every` seconds apart.

    `print_line` takes a line; `unit` is what is counted.
    """

    def __init__(self, print_line: Callable[[str], None], unit: str, *, every: float = 5.0) -> None:
        self._print, self.unit, self.every = print_line, unit, every
        self._title = ""
        self._start = self._last = 0.0

    def __call__(self, title: str, done: int, total: int) -> None:
        """Take note that `done` of `total` steps of the phase `title` are done."""
        now = time.monotonic()
        if title != self._title or done == 0:
            self._title, self._start, self._last = title, now, now
        if done and now - self._last >= self.every:
            self._last = now
            left = (total - done) * (now - self._start) / done
            self._print(f"{title}: {done}/{total} {self.unit}, about {duration(left)} left")

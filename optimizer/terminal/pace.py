"""The speed of a search, and the time that it still takes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

RECENT = 20  # candidates over which speed is measured
MEANINGFUL = 5  # candidates before which no time is estimated: baselines are scored in full, most candidates are not


class Pace:
    """Seconds and item scores of the recent candidates.

    `items_after` is the number of item scores that follow the search: those of the select and report parts.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._last = clock, clock()
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT)  # (seconds, items) of candidates
        self._scored = (0.0, 0)  # (seconds, items) of all trials
        self._current = 0
        self.items_after = 0

    def block(self, items: int) -> None:
        """Count the items of a scored block."""
        self._current += items

    def finished(self, *, candidate: bool) -> None:
        """Record the end of a trial; baselines and probes are no candidates."""
        now, items, self._current = self._clock(), self._current, 0
        seconds, self._last = now - self._last, now
        self._scored = (self._scored[0] + seconds, self._scored[1] + items)
        if candidate:
            self._recent.append((seconds, items))

    @property
    def items_per_second(self) -> float:
        """Item scores per second over all trials, merging included; 0 if there are none."""
        seconds, items = self._scored
        return items / seconds if seconds > 0 else 0.0

    def seconds_left(self, candidates: int, items: int | None) -> float | None:
        """Return the seconds until the verdict, or None while too few candidates have finished.

        Args:
            candidates: how many are still to be scored.
            items: how many item scores they may take; None without a limit.
        """
        if len(self._recent) < MEANINGFUL:
            return None
        seconds, scored = (sum(pair[i] for pair in self._recent) for i in (0, 1))
        left = candidates * seconds / len(self._recent)
        if items is not None and scored:
            left = min(left, max(0, items) * seconds / scored)
        rate = self.items_per_second
        return left + (self.items_after / rate if rate else 0.0)

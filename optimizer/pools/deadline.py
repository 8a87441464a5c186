"""When a worker counts as hung."""

from __future__ import annotations

from collections import deque
from statistics import median

TIMES = 10.0  # as long as the median candidate: the first of a method, or one on a slow node, takes several times it
LEAST = 60.0  # seconds
UNKNOWN = 7200.0  # seconds, until some candidates are finished
ENOUGH, RECENT = 3, 100  # candidates from which on, and over which, the median is taken


class Deadline:
    """Seconds that a candidate may take: as configured, or by the median of those that were scored whole."""

    def __init__(self, configured: float | None) -> None:
        self.configured = configured
        self._seconds: deque[float] = deque(maxlen=RECENT)

    def took(self, seconds: float) -> None:
        """A candidate was scored whole in so many seconds."""
        self._seconds.append(seconds)

    @property
    def seconds(self) -> float:
        """The present limit."""
        if self.configured is not None:
            return self.configured
        if len(self._seconds) < ENOUGH:
            return UNKNOWN
        return max(LEAST, TIMES * median(self._seconds))

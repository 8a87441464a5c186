"""When a worker counts as hung."""

from __future__ import annotations

from collections import defaultdict, deque
from statistics import median

from ...evaluators import Part

TIMES = 10.0  # as long as the median candidate: the first of a method, or one on a slow node, takes several times it
LEAST = 60.0  # seconds
UNKNOWN = 7200.0  # seconds, until some candidates are finished
ENOUGH, RECENT = 3, 100  # candidates from which on, and over which, the median is taken


class Deadline:
    """Seconds that a candidate may take: as configured, or by the median of those that were scored whole on the part.

    The parts' sizes differ: by the search items' time a candidate on many more report items would seem to hang.
    """

    def __init__(self, configured: float | None) -> None:
        self.configured = configured
        self._seconds: defaultdict[Part, deque[float]] = defaultdict(lambda: deque(maxlen=RECENT))

    def took(self, part: Part, seconds: float) -> None:
        """A candidate was scored whole in so many seconds."""
        self._seconds[part].append(seconds)

    def seconds(self, part: Part) -> float:
        """The present limit."""
        if self.configured is not None:
            return self.configured
        known = self._seconds[part]
        return UNKNOWN if len(known) < ENOUGH else max(LEAST, TIMES * median(known))

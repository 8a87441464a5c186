"""The time limit after which a worker counts as hung."""

from __future__ import annotations

from collections import defaultdict, deque
from statistics import median

from ...evaluators import Part

MEDIAN_FACTOR = 10.0  # the first candidate of a method, or one on a slow node, takes several times the median
MIN_TIMEOUT_S = 60.0
INITIAL_TIMEOUT_S = 7200.0  # until MIN_FINISHED candidates have finished
MIN_FINISHED = 3
RECENT = 100  # candidates over which the median is taken


class Deadline:
    """The time that a candidate may take: the configured one, or a multiple of the median over recent candidates.

    Each part of the items has its own median, because parts differ in size: a candidate on many more report items would
    seem to hang if the limit came from the search items.
    """

    def __init__(self, configured: float | None) -> None:
        """`configured` is `workers.trial_timeout` in seconds."""
        self.configured = configured
        self._seconds: defaultdict[Part, deque[float]] = defaultdict(lambda: deque(maxlen=RECENT))

    def record(self, part: Part, seconds: float) -> None:
        """Record the time of a candidate that was scored on all items of a part."""
        self._seconds[part].append(seconds)

    def seconds(self, part: Part) -> float:
        """Return the present limit in seconds."""
        if self.configured is not None:
            return self.configured
        recent = self._seconds[part]
        if len(recent) < MIN_FINISHED:
            return INITIAL_TIMEOUT_S
        return max(MIN_TIMEOUT_S, MEDIAN_FACTOR * median(recent))

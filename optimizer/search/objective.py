"""The objective: a weighted sum of task scores, which is maximized, with limits on single tasks.

    objective = sum_k w_k s_k m_k / r_k / sum_k w_k

m_k is the metric, s_k = +1 or -1 by its direction, and r_k = 1 for metrics within [0, 1], else the magnitude of the
best parent's value on the search part, fixed before the first candidate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...evaluators import Score, Scores, TaskEntry, entry_score, entry_value

RESAMPLES = 2000
INTERVAL = (2.5, 97.5)  # percentiles of a 95 % interval


@dataclass(frozen=True)
class Objective:
    """The entries with their scales; `parents` holds the best parent's value per entry, for `max_drop`."""

    entries: tuple[TaskEntry, ...]
    scales: Mapping[str, float] = field(default_factory=dict)
    parents: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def fixed_by(cls, entries: tuple[TaskEntry, ...], parents: Iterable[Mapping[str, Score]]) -> Objective:
        """Return the objective with scales and limits from the parents' scores on the search part."""
        scores = list(parents)
        best: dict[str, float] = {}
        for entry in entries:
            values = [score[entry.name].value for score in scores]
            if values:
                best[entry.name] = max(values) if entry.sign > 0 else min(values)
        scales = {e.name: abs(best[e.name]) or 1.0 for e in entries if not e.bounded and e.name in best}
        return cls(entries, scales, best)

    def value(self, scores: Mapping[str, Score]) -> float:
        """Return the objective of a candidate's scores."""
        return self._combined({entry.name: scores[entry.name].value for entry in self.entries})

    def stderr(self, scores: Mapping[str, Score]) -> float:
        """Return the standard error of the objective, for independent tasks; NaN if that of a task is unknown."""
        total = sum(entry.weight for entry in self.entries)
        parts = [e.weight * scores[e.name].stderr / self.scales.get(e.name, 1.0) / total for e in self.entries]
        return math.sqrt(sum(part**2 for part in parts))

    def violations(self, scores: Mapping[str, Score]) -> dict[str, float]:
        """Return by how much each entry with `max_drop` falls below its limit; at most 0 is feasible."""
        return {
            entry.name: entry.sign * (self.parents[entry.name] - scores[entry.name].value) - entry.max_drop
            for entry in self.entries
            if entry.max_drop is not None and entry.name in self.parents
        }

    def feasible(self, scores: Mapping[str, Score]) -> bool:
        """Return whether no entry falls below its limit."""
        return all(excess <= 0 for excess in self.violations(scores).values())

    def difference(self, first: Scores, second: Scores) -> Difference:
        """Return the objective of `first` minus that of `second` on the same items, with a paired bootstrap interval.

        Items are resampled within each task (Efron and Tibshirani 1993, chapter 13), identically for both.

        Raises:
            ValueError: the two were scored on different items.
        """
        rng = np.random.Generator(np.random.PCG64(0))
        sizes = {leaf: len(items.ids) for leaf, items in first.items.items()}
        for leaf, items in first.items.items():
            if items.ids != second.items[leaf].ids:
                raise ValueError(f"'{leaf}': the two candidates were scored on different items")
        draws = []
        for _ in range(RESAMPLES):
            chosen = {leaf: rng.integers(0, size, size) for leaf, size in sizes.items()}
            draws.append(self._resampled(first, chosen) - self._resampled(second, chosen))
        # A task with a single item has no interval.
        known = all(size > 1 for size in sizes.values()) and bool(np.isfinite(draws).all())
        low, high = np.percentile(draws, INTERVAL) if known else (math.nan, math.nan)
        return Difference(
            self._resampled(first, None) - self._resampled(second, None),
            float(low),
            float(high),
            sum(sizes.values()),
        )

    def task_difference(self, entry: TaskEntry, first: Scores, second: Scores) -> Difference:
        """Return by how much `first` is better on one task, in the metric's unit, with an interval as `difference`.

        Raises:
            ValueError: the two were scored on different items.
        """
        alone = Objective((entry,))  # a task by itself needs no scale
        return alone.difference(_only(entry, first), _only(entry, second))

    def _resampled(self, scores: Scores, chosen: Mapping[str, np.ndarray] | None) -> float:
        return self._combined({entry.name: entry_value(entry, scores, chosen) for entry in self.entries})

    def _combined(self, values: Mapping[str, float]) -> float:
        total = sum(entry.weight for entry in self.entries)
        terms = (e.weight * e.sign * values[e.name] / self.scales.get(e.name, 1.0) for e in self.entries)
        return sum(terms) / total


@dataclass(frozen=True)
class Difference:
    """A paired difference of objectives over `n` items, with its 95 % interval; NaN if there is none."""

    value: float
    low: float
    high: float
    n: int

    def to_document(self) -> dict[str, float | int | None]:
        """Return the JSON document; null bounds if there is no interval."""
        low, high = ((bound if math.isfinite(bound) else None) for bound in (self.low, self.high))
        return {"value": self.value, "low": low, "high": high, "n": self.n}

    @property
    def distinguishable(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def _only(entry: TaskEntry, scores: Scores) -> Scores:
    """Return the scores on the items of one task."""
    names = {leaf.name for leaf in entry.leaves}
    return Scores(scores.part, {leaf: items for leaf, items in scores.items.items() if leaf in names})


def scores_of(entries: Sequence[TaskEntry], scores: Scores) -> dict[str, Score]:
    """Return entry name -> score."""
    return {entry.name: entry_score(entry, scores) for entry in entries}

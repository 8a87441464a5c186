"""The objective: a weighted sum of task scores, which is maximized, with limits on single tasks.

    objective = sum_k w_k s_k m_k / r_k / sum_k w_k

m_k is the metric, s_k = +1 or -1 by its direction, and r_k = 1 for metrics within [0, 1], else the magnitude of the
best parent's value on the search part, fixed before the first candidate. Tasks of weight 0 have limits only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ...evaluators import Leaf, Score, Scores, TaskEntry, entry_score, entry_value, entry_values, resamples
from ..run_folder.item_matrix import shared

RESAMPLES = 2000
PAIRED_RESAMPLES = 200  # for a standard error, which needs fewer than an interval
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

    @cached_property
    def weighted(self) -> tuple[TaskEntry, ...]:
        """The entries that the objective is the mean of: all but those of weight 0."""
        return tuple(entry for entry in self.entries if entry.weight > 0)

    def value(self, scores: Mapping[str, Score]) -> float:
        """Return the objective of a candidate's scores."""
        return self._combined({entry.name: scores[entry.name].value for entry in self.weighted})

    def stderr(self, scores: Mapping[str, Score]) -> float:
        """Return the standard error of the objective, for independent tasks; NaN if that of a task is unknown."""
        total = sum(entry.weight for entry in self.weighted)
        parts = [e.weight * scores[e.name].stderr / self.scales.get(e.name, 1.0) / total for e in self.weighted]
        return math.sqrt(sum(part**2 for part in parts))

    def violations(self, scores: Mapping[str, Score]) -> dict[str, float]:
        """Return by how much each entry with `max_drop` falls below its limit; at most 0 is feasible.

        An entry of which no item was scored, because the candidate was dropped before, is left out.
        """
        return {
            entry.name: entry.sign * (self.parents[entry.name] - scores[entry.name].value) - entry.max_drop
            for entry in self.entries
            if entry.max_drop is not None and entry.name in self.parents and scores[entry.name].n
        }

    def feasible(self, scores: Mapping[str, Score]) -> bool:
        """Return whether no entry falls below its limit."""
        return all(excess <= 0 for excess in self.violations(scores).values())

    def difference(self, first: Scores, second: Scores) -> Difference:
        """Return the objective of `first` minus that of `second` on the same items, with a paired bootstrap interval.

        Only the items of tasks that the objective is the mean of count, and only those on which the metric has a value
        for both. They are resampled within each task (Efron and Tibshirani 1993, chapter 13), identically for both.

        Raises:
            ValueError: the two were scored on different items.
        """
        weighted = {leaf.name for entry in self.weighted for leaf in entry.leaves}
        for leaf in weighted & first.items.keys():
            if first.items[leaf].ids != second.items[leaf].ids:
                raise ValueError(f"'{leaf}': the two candidates were scored on different items")
        first, second = shared(first, second)
        sizes = {leaf: len(items.ids) for leaf, items in first.items.items() if leaf in weighted}
        if any(not any(leaf.name in sizes for leaf in entry.leaves) for entry in self.weighted):
            return Difference(math.nan, math.nan, math.nan, sum(sizes.values()))
        draws = np.concatenate(
            [self._drawn(first, drawn) - self._drawn(second, drawn) for drawn in resamples(sizes, RESAMPLES)]
        )
        # A task with a single item has no interval.
        known = all(size > 1 for size in sizes.values()) and bool(np.isfinite(draws).all())
        low, high = np.percentile(draws, INTERVAL) if known else (math.nan, math.nan)
        return Difference(
            self._whole(first) - self._whole(second),
            float(low),
            float(high),
            sum(sizes.values()),
        )

    def task_difference(self, entry: TaskEntry, first: Scores, second: Scores) -> Difference:
        """Return by how much `first` is better on one task, in the metric's unit, with an interval as `difference`.

        Raises:
            ValueError: the two were scored on different items.
        """
        alone = Objective((replace(entry, weight=1.0),))  # a task by itself needs no scale; a limit alone has weight 0
        return alone.difference(_only(entry, first), _only(entry, second))

    def _whole(self, scores: Scores) -> float:
        return self._combined({entry.name: entry_value(entry, scores) for entry in self.weighted})

    def _drawn(self, scores: Scores, drawn: Mapping[str, np.ndarray]) -> np.ndarray:
        return self._combined({entry.name: entry_values(entry, scores, drawn) for entry in self.weighted})

    def _combined(self, values: Mapping[str, Any]) -> Any:
        """Return the objective of values per entry: floats, or (r,) arrays."""
        total = sum(entry.weight for entry in self.weighted)
        terms = (e.weight * e.sign * values[e.name] / self.scales.get(e.name, 1.0) for e in self.weighted)
        return sum(terms) / total


@dataclass(frozen=True)
class Difference:
    """A paired difference of objectives over `n` items, with its 95 % interval; NaN if there is none."""

    value: float
    low: float
    high: float
    n: int

    def to_document(self) -> dict[str, float | int | None]:
        """Return the JSON document; null for NaN."""
        value, low, high = ((n if math.isfinite(n) else None) for n in (self.value, self.low, self.high))
        return {"value": value, "low": low, "high": high, "n": self.n}

    @property
    def distinguishable(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def leaf_without_values(scores: Scores) -> str | None:
    """Return a leaf task with items of which none has a value of its metric, so that it has no score; else None."""
    return next((leaf for leaf, items in scores.items.items() if items.ids and not items.known.any()), None)


def _only(entry: TaskEntry, scores: Scores) -> Scores:
    """Return the scores on the items of one task."""
    names = {leaf.name for leaf in entry.leaves}
    return Scores(scores.part, {leaf: items for leaf, items in scores.items.items() if leaf in names})


def scores_of(entries: Sequence[TaskEntry], scores: Scores) -> dict[str, Score]:
    """Return entry name -> score."""
    return {entry.name: entry_score(entry, scores) for entry in entries}


def paired_difference(entry: TaskEntry, first: Scores, second: Scores) -> Score:
    """Return by how much `first` is better on a task, in the metric's unit, with its bootstrap standard error.

    Items are resampled identically for both, those that have a value for both. The standard error is NaN if a leaf has
    a single item.
    """
    first, second = shared(first, second)
    sizes = {leaf.name: len(first.items[leaf.name].ids) for leaf in scored_leaves(entry, first)}
    if not sizes:
        return Score(math.nan, math.nan, 0)
    draws = np.concatenate(
        [
            entry.sign * (entry_values(entry, first, drawn) - entry_values(entry, second, drawn))
            for drawn in resamples(sizes, PAIRED_RESAMPLES)
        ]
    )
    known = min(sizes.values()) > 1 and bool(np.isfinite(draws).all())
    value = entry.sign * (entry_value(entry, first) - entry_value(entry, second))
    return Score(value, float(np.std(draws, ddof=1)) if known else math.nan, sum(sizes.values()))


def scored_leaves(entry: TaskEntry, scores: Scores) -> list[Leaf]:
    """Return the leaves of an entry that have items."""
    return [leaf for leaf in entry.leaves if leaf.name in scores.items]

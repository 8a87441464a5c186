"""The matrix of a run's item scores, candidates by items.

From it come paired differences between any two candidates, on the items that both were scored on, and the items that
separate good candidates from bad ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...evaluators import ItemScores, Part, Scores
from .run_folder import RunFolder


@dataclass(frozen=True)
class ItemMatrix:
    """Scores of T candidates on the n items of one part, for metrics with one value per item.

    Attributes:
        trials: (T,) trial numbers, ascending; repetitions of a recipe are left out.
        leaves: (n,) the leaf task of each item; the items of a leaf are contiguous.
        ids: (n,) the id of each item within its leaf.
        values: (T, n) float64; NaN if the candidate was dropped before the item, or the metric is undefined there.
        complete: (T,) bool, whether the candidate was scored in full.
    """

    trials: tuple[int, ...]
    leaves: tuple[str, ...]
    ids: tuple[str, ...]
    values: np.ndarray
    complete: np.ndarray

    @classmethod
    def load(cls, run_folder: RunFolder, part: Part = "search") -> ItemMatrix:
        """Read the scores on one part of all trials that were scored there and did not fail."""
        rows: dict[int, dict[tuple[str, str], float]] = {}
        complete: list[bool] = []
        for trial in sorted(run_folder.trials(), key=lambda trial: trial.number):
            scores = None if trial.failed or trial.repeats is not None else run_folder.items(trial.number, part)
            if scores is not None:
                rows[trial.number] = dict(_cells(scores))
                complete.append(trial.complete)
        keys = dict.fromkeys(key for row in rows.values() for key in row)
        order = {leaf: i for i, leaf in enumerate(dict.fromkeys(leaf for leaf, _ in keys))}
        ordered = sorted(keys, key=lambda key: order[key[0]])
        values = np.array([[row.get(key, np.nan) for key in ordered] for row in rows.values()])
        leaves, ids = tuple(leaf for leaf, _ in ordered), tuple(item for _, item in ordered)
        return cls(tuple(rows), leaves, ids, values.reshape(len(rows), len(ordered)), np.array(complete, dtype=bool))

    def alike(self) -> np.ndarray:
        """Return (n,) bool: whether all candidates that were scored on an item have the same score."""
        low, high = np.fmin.reduce(self.values, axis=0), np.fmax.reduce(self.values, axis=0)
        return low == high

    def telling(self) -> np.ndarray:
        """Return (n,) float64: the correlation of each item's scores with the total over the other items.

        The corrected item-total correlation of classical test theory (Henrysson 1963, doi:10.1007/BF02289618), over the
        candidates that were scored in full; NaN if all of them have the same score, or one has no value.
        """
        scores = self.values[self.complete]
        known = np.isfinite(scores).all(axis=0)  # a metric can be undefined on an item; its mean skips it
        rest = scores[:, known].sum(axis=1, keepdims=True) - scores
        x, y = scores - scores.mean(axis=0), rest - rest.mean(axis=0)
        norm = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
        return np.divide((x * y).sum(axis=0), norm, out=np.full(norm.shape, np.nan), where=norm > 0)


def _cells(scores: Scores) -> Iterator[tuple[tuple[str, str], float]]:
    for leaf, items in scores.items.items():
        if items.values.ndim == 1:
            yield from (((leaf, item), float(v)) for item, v in zip(items.ids, items.values, strict=True))


def shared(first: Scores, second: Scores) -> tuple[Scores, Scores]:
    """Return two candidates' scores on the items that have a value for both, in the order of the first."""
    pairs = {leaf: _shared(items, second.items[leaf]) for leaf, items in first.items.items() if leaf in second.items}
    pairs = {leaf: pair for leaf, pair in pairs.items() if pair[0].ids}
    return (
        Scores(first.part, {leaf: pair[0] for leaf, pair in pairs.items()}),
        Scores(second.part, {leaf: pair[1] for leaf, pair in pairs.items()}),
    )


def difference(first: Scores, second: Scores) -> Scores:
    """Return first minus second, item by item, on the items that have a value for both."""
    one, other = shared(first, second)
    return Scores(
        one.part,
        {leaf: ItemScores(items.ids, items.values - other.items[leaf].values) for leaf, items in one.items.items()},
    )


def _shared(first: ItemScores, second: ItemScores) -> tuple[ItemScores, ItemScores]:
    first_known, second_known = first.known, second.known
    position = {item: i for i, item in enumerate(second.ids) if second_known[i]}
    in_first = [i for i, item in enumerate(first.ids) if first_known[i] and item in position]
    in_second = [position[first.ids[i]] for i in in_first]
    ids = tuple(first.ids[i] for i in in_first)
    return ItemScores(ids, first.values[in_first]), ItemScores(ids, second.values[in_second])

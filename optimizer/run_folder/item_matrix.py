"""The item matrix of a run: which candidate scored what on which item.

Every question about candidates that were scored already is answered from here: intervals and paired tests between any
two, also dropped ones (on the items that both have), and which items tell candidates apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...evaluators import ItemScores, Part, Scores
from .run_folder import RunFolder


@dataclass(frozen=True)
class ItemMatrix:
    """Scores of T candidates on the n items of one part, for metrics with one number per item.

    Attributes:
        trials: (T,) trial numbers, ascending; a recipe that was proposed again is in it once.
        leaves: (n,) the leaf of each item; the items of a leaf stand together.
        ids: (n,) the id of each item within its leaf.
        values: (T, n) float64; NaN where a candidate was dropped before the item, or where the metric gave none.
        complete: (T,) bool, whether a candidate was scored in full.
    """

    trials: tuple[int, ...]
    leaves: tuple[str, ...]
    ids: tuple[str, ...]
    values: np.ndarray
    complete: np.ndarray

    @classmethod
    def load(cls, run_folder: RunFolder, part: Part = "search") -> ItemMatrix:
        """Read a run's items on one part, of all trials that were scored there and did not fail."""
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
        """(n,) whether all candidates that were scored on an item scored the same there."""
        low, high = np.fmin.reduce(self.values, axis=0), np.fmax.reduce(self.values, axis=0)
        return low == high

    def telling(self) -> np.ndarray:
        """(n,) how well each item tells candidates apart: the correlation of its scores with the mean of the others'.

        The corrected item-total correlation of classical test theory (Henrysson 1963, doi:10.1007/BF02289618), over the
        candidates that were scored in full; NaN where all of them scored the same, or one has no value.
        """
        scores = self.values[self.complete]
        known = np.isfinite(scores).all(axis=0)  # a metric may have no value for an item, which its mean then skips
        rest = scores[:, known].sum(axis=1, keepdims=True) - scores
        x, y = scores - scores.mean(axis=0), rest - rest.mean(axis=0)
        norm = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
        return np.divide((x * y).sum(axis=0), norm, out=np.full(norm.shape, np.nan), where=norm > 0)


def _cells(scores: Scores) -> Iterator[tuple[tuple[str, str], float]]:
    for leaf, items in scores.items.items():
        if items.values.ndim == 1:
            yield from (((leaf, item), float(v)) for item, v in zip(items.ids, items.values, strict=True))


def shared(first: Scores, second: Scores) -> tuple[Scores, Scores]:
    """Two candidates' scores on the items that both were scored on, in the order of the first."""
    pairs = {leaf: _shared(items, second.items[leaf]) for leaf, items in first.items.items() if leaf in second.items}
    pairs = {leaf: pair for leaf, pair in pairs.items() if pair[0].ids}
    return (
        Scores(first.part, {leaf: pair[0] for leaf, pair in pairs.items()}),
        Scores(second.part, {leaf: pair[1] for leaf, pair in pairs.items()}),
    )


def difference(first: Scores, second: Scores) -> Scores:
    """First minus second, item by item, on the items that both were scored on."""
    one, other = shared(first, second)
    return Scores(
        one.part,
        {leaf: ItemScores(items.ids, items.values - other.items[leaf].values) for leaf, items in one.items.items()},
    )


def _shared(first: ItemScores, second: ItemScores) -> tuple[ItemScores, ItemScores]:
    place = {item: i for i, item in enumerate(second.ids)}
    mine = [i for i, item in enumerate(first.ids) if item in place]
    theirs = [place[first.ids[i]] for i in mine]
    ids = tuple(first.ids[i] for i in mine)
    return ItemScores(ids, first.values[mine]), ItemScores(ids, second.values[theirs])

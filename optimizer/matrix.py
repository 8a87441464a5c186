"""The item matrix of a run: which candidate scored what on which item.

Every question about candidates that were scored already is answered from here: intervals and paired tests between any
two, also dropped ones (on the items that both have), and which items tell candidates apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluators import ItemScores, Part, Scores
from .rundir import RunDir


@dataclass(frozen=True)
class ItemMatrix:
    """Scores of T candidates on one part; metrics with one number per item only.

    Attributes:
        trials: (T,) trial numbers, ascending.
        leaves: (n,) the leaf of each item.
        ids: (n,) the id of each item within its leaf.
        values: (T, n) float64; NaN where a candidate was dropped before the item.
    """

    part: Part
    trials: tuple[int, ...]
    leaves: tuple[str, ...]
    ids: tuple[str, ...]
    values: np.ndarray

    @classmethod
    def load(cls, rundir: RunDir, part: Part = "search", trials: Sequence[int] | None = None) -> ItemMatrix:
        """Read a run's items, of these trials or of all; trials that were not scored on the part are left out."""
        numbers = sorted({trial.number for trial in rundir.trials()} if trials is None else set(trials))
        scored = {number: scores for number in numbers if (scores := rundir.items(number, part)) is not None}
        flat = {
            number: {
                (leaf, item): float(value)
                for leaf, items in scores.items.items()
                if items.values.ndim == 1
                for item, value in zip(items.ids, items.values, strict=True)
            }
            for number, scores in scored.items()
        }
        keys = list(dict.fromkeys(key for row in flat.values() for key in row))
        leaves = list(dict.fromkeys(leaf for leaf, _ in keys))
        keys.sort(key=lambda key: leaves.index(key[0]))
        values = np.array([[row.get(key, np.nan) for key in keys] for row in flat.values()])
        return cls(
            part,
            tuple(scored),
            tuple(leaf for leaf, _ in keys),
            tuple(item for _, item in keys),
            values.reshape(len(scored), len(keys)),
        )


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

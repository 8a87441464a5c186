"""The records that leave this package: what is scored (TaskEntry, Block) and what came out (ItemScores, Scores)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .config import Part

# What is kept about the answers of an item that is generated, the columns of `ItemScores.facts`: whether the answer was
# cut off at the limit, was empty, held nothing that the filter looks for; and how many tokens it had.
FACTS = ("truncated", "empty", "unextracted", "length")


class ScoringError(RuntimeError):
    """A candidate that cannot be scored: its failure, not the run's. The text names the task and the item."""


class InsufficientMemoryError(ScoringError):
    """Too little memory for lm-eval's own scorer, even with one row per batch."""


@dataclass(frozen=True)
class Leaf:
    """One lm-eval task (or Python objective) inside an entry.

    Attributes:
        name: the lm-eval task's name, a key of `ItemScores` mappings.
        share: its part of the entry's value; the shares of an entry sum to 1. Where the group weights by size it is
            the leaf's part of all documents (after `limit`), the same in search, select and report.
        aggregation: "mean", another name in lm-eval's registry, or "file.py:function".
    """

    name: str
    share: float
    aggregation: str


@dataclass(frozen=True)
class TaskEntry:
    """One configured task.

    Attributes:
        sign: +1 when a higher value is better, else -1.
        bounded: whether each item's value lies in [0, 1]. False for a Python objective, whose values are not known.
        python: a Python objective. One that returns a bare float gives a `Score` with n == 1 and no interval.
    """

    name: str
    weight: float
    metric: str
    filter: str
    sign: int
    bounded: bool
    max_drop: float | None
    leaves: tuple[Leaf, ...]
    python: bool = False


@dataclass(frozen=True)
class Block:
    """A fixed set of items that are scored together.

    Attributes:
        items: leaf name -> ids of its documents in lm-eval's numbering, ascending. A Python objective stands in the
            last block of its part with an empty tuple: its items are known once it has run.
    """

    part: Part
    index: int
    items: Mapping[str, tuple[int, ...]]

    def __len__(self) -> int:
        return sum(len(ids) for ids in self.items.values())


@dataclass(frozen=True)
class ItemScores:
    """Per-item values of one leaf.

    Attributes:
        ids: (n,) item ids as text: lm-eval's document ids, or the keys a Python objective returned.
        values: (n,) float64, or (n, k) where the metric keeps k numbers per item, as perplexities do.
        facts: (n, len(FACTS)) float64 where answers are generated, else None.
    """

    ids: tuple[str, ...]
    values: np.ndarray
    facts: np.ndarray | None = None


@dataclass(frozen=True)
class BlockScores:
    """What scoring one block gave: leaf name -> its items, and the wall time in seconds.

    `smaller_batches`: memory ran out, and it was scored with batches of half the size.
    """

    part: Part
    index: int
    items: Mapping[str, ItemScores]
    seconds: float
    smaller_batches: bool = False


@dataclass(frozen=True)
class Scores:
    """All scored items of one part: leaf name -> its items in ascending order of their ids."""

    part: Part
    items: Mapping[str, ItemScores]


@dataclass(frozen=True)
class Score:
    """An entry's value in the metric's own direction, its standard error (NaN when unknown), and its item count.

    n == 1 means that there is no interval: the value is one number, taken whole.
    """

    value: float
    stderr: float
    n: int


class UnsupportedError(ValueError):
    """This way of scoring is not for this model; the text says why."""

"""The records that other packages use: the evaluation (TaskEntry, Block) and its results (ItemScores, Scores)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .config import Part

# The columns of `ItemScores.facts`, means over an item's generated answers: whether an answer was cut off at the token
# limit, was empty, contained nothing that the task's filter extracts; and its length in tokens.
FACTS = ("truncated", "empty", "unextracted", "length")


class ScoringError(RuntimeError):
    """A candidate cannot be scored; the run continues with others. The message names the task and the item."""


class InsufficientMemoryError(ScoringError):
    """Too little memory for lm-eval's HFLM scorer, even with one row per batch."""


@dataclass(frozen=True)
class Leaf:
    """One lm-eval task (or Python objective) inside an entry.

    Attributes:
        name: the lm-eval task's name, a key of `ItemScores` mappings.
        share: its weight in the entry's value; the shares of an entry sum to 1. If the group weights by size, it is
            the leaf's fraction of all documents (after `limit`), the same in search, select and report.
        aggregation: "mean", another name in lm-eval's registry, or "file.py:function".
    """

    name: str
    share: float
    aggregation: str


@dataclass(frozen=True)
class TaskEntry:
    """One configured task.

    Attributes:
        weight: the entry's share in the objective; 0 if it only has a limit, `max_drop`.
        sign: +1 when a higher value is better, else -1.
        bounded: whether each item's value lies in [0, 1]. False for a Python objective, whose range is unknown.
        python: whether it is a Python objective. One that returns a bare float gives a `Score` with n == 1, without a
            confidence interval.
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

    @property
    def raced(self) -> bool:
        """Whether its items can show early that a candidate is worse: they are bounded, and the objective has them."""
        return self.bounded and self.weight > 0


@dataclass(frozen=True)
class Block:
    """A fixed set of items that are scored together.

    Attributes:
        items: leaf name -> ids of its documents in lm-eval's numbering, ascending. A Python objective is part
            of the last block, with an empty tuple: its items are known only after it has run. In the search part, the
            items of raced entries come first, and no block holds both those and others.
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
        values: (n,) float64, or (n, k) if the metric keeps k values per item, as perplexities do. NaN if the metric has
            no value on the item, because the task left it out or it is undefined there; means skip the item.
        facts: (n, len(FACTS)) float64 if answers are generated, else None.
        by_filter: another filter of the task -> the values of the same answers by it, (n,); see `other_filters.py`.
        answers: (n,) the answers as text, for the report part; empty for the other parts and for Python objectives.
    """

    ids: tuple[str, ...]
    values: np.ndarray
    facts: np.ndarray | None = None
    by_filter: Mapping[str, np.ndarray] = field(default_factory=dict)
    answers: tuple[str, ...] = ()

    @property
    def known(self) -> np.ndarray:
        """Whether the metric has a value, per item, (n,) bool."""
        missing = np.isnan(self.values)
        return np.logical_not(missing if missing.ndim == 1 else missing.any(axis=1))


@dataclass(frozen=True)
class ItemText:
    """The end of an item's prompt, and the answer that its task expects; "" if the task names none."""

    prompt: str
    gold: str


@dataclass(frozen=True)
class BlockScores:
    """The scores of one block.

    Attributes:
        items: leaf name -> its items.
        seconds: wall time.
        smaller_batches: whether memory ran out and the block was scored again with batches of half the size.
    """

    part: Part
    index: int
    items: Mapping[str, ItemScores]
    seconds: float
    smaller_batches: bool = False


@dataclass(frozen=True)
class Scores:
    """All scored items of one part; `items` maps leaf names to items in ascending order of their ids."""

    part: Part
    items: Mapping[str, ItemScores]


@dataclass(frozen=True)
class Score:
    """An entry's value in its metric's unit and direction, its standard error (NaN if unknown), and its item count.

    Items without a value of the metric are not counted.
    With n == 1 there is no confidence interval: the value is a single number.
    """

    value: float
    stderr: float
    n: int


class UnsupportedError(ValueError):
    """A scorer does not support a model or a task; the message says why."""

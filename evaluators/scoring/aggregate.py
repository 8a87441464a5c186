"""Aggregates per-item values to an entry's value and standard error.

Items without a value of the metric (NaN) are left out, as lm-eval does with documents whose results lack the metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mergesmith.errors import unknown

from ..records import BlockScores, ItemScores, Leaf, Score, Scores, TaskEntry
from ..tasks.python_objectives import load_function

RESAMPLES = 200
BATCH = 1 << 20  # indices that are drawn at a time, 8 MiB


def join(blocks: Sequence[BlockScores]) -> Scores:
    """Merge the scores of blocks of one part, with each leaf's items in ascending order of their ids.

    Raises:
        ValueError: no blocks, blocks of different parts, or an item that occurs twice.
    """
    if len({block.part for block in blocks}) != 1:
        raise ValueError(f"join needs blocks of one part, but got parts {[block.part for block in blocks]}")
    pieces: dict[str, list[ItemScores]] = {}
    for block in blocks:
        for leaf, items in block.items.items():
            pieces.setdefault(leaf, []).append(items)
    return Scores(part=blocks[0].part, items={leaf: _merged(leaf, found) for leaf, found in pieces.items()})


def entry_score(entry: TaskEntry, scores: Scores) -> Score:
    """Return an entry's value with its standard error over items.

    The standard error of a mean has a closed form; for any other aggregation it is the standard deviation over 200
    bootstrap resamples with a fixed seed. A group sums its leaves' variances weighted by the squares of their shares; a
    leaf with a single item gets the mean variance per item of the other leaves.

    Raises:
        ValueError: the scores hold none of the entry's leaves.
    """
    leaves = _present(entry, scores)
    known = [_known(leaf, scores.items[leaf.name].values) for leaf, _ in leaves]
    per_item = [_variance_per_item(leaf, values) for (leaf, _), values in zip(leaves, known, strict=True)]
    variances = [variance for variance in per_item if not math.isnan(variance)]
    borrowed = sum(variances) / len(variances) if variances else math.nan
    total = 0.0
    for (_, share), variance, values in zip(leaves, per_item, known, strict=True):
        each = borrowed if math.isnan(variance) else variance
        total += share**2 * each / len(values) if len(values) else math.nan
    return Score(value=entry_value(entry, scores), stderr=math.sqrt(total), n=sum(map(len, known)))


def entry_value(entry: TaskEntry, scores: Scores, indices: Mapping[str, np.ndarray] | None = None) -> float:
    """Return an entry's value over all its items, or over selected ones.

    `indices` maps a leaf name to (m,) indices into that leaf's items, possibly repeated as in a bootstrap resample.

    Raises:
        ValueError: the scores hold none of the entry's leaves.
    """
    total = 0.0
    for leaf, share in _present(entry, scores):
        values = scores.items[leaf.name].values
        total += share * leaf_value(leaf, values if indices is None else values[indices[leaf.name]])
    return total


def entry_values(entry: TaskEntry, scores: Scores, resample: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return an entry's value over each of r selections of items, (r,); `resample` maps a leaf name to (r, m) indices.

    Each value has the bits that `entry_value` gives for its row.

    Raises:
        ValueError: the scores hold none of the entry's leaves.
    """
    total: Any = 0.0
    for leaf, share in _present(entry, scores):
        values, rows = scores.items[leaf.name].values, resample[leaf.name]
        if leaf.aggregation == "mean" and values.ndim == 1 and not np.isnan(values).any():
            found = values[rows].mean(axis=1)
        else:
            found = np.array([leaf_value(leaf, values[row]) for row in rows])
        total = total + share * found
    return total


def resamples(sizes: Mapping[str, int], count: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield bootstrap resamples, `count` in all, in batches: by leaf (r, size) indices. Equal arguments draw the same.

    Args:
        sizes: the number of items by leaf.
        count: the number of resamples, at least 1.
    """
    rng = np.random.Generator(np.random.PCG64(0))
    batch = max(1, BATCH // max(1, sum(sizes.values())))
    for first in range(0, count, batch):
        drawn = [[rng.integers(0, size, size) for size in sizes.values()] for _ in range(min(batch, count - first))]
        yield {leaf: np.stack(rows) for leaf, rows in zip(sizes, zip(*drawn, strict=True), strict=True)}


def leaf_value(leaf: Leaf, values: np.ndarray) -> float:
    """Return a leaf's aggregated value, NaN if no item has one.

    `values` is (n,), or (n, k) for metrics that keep k values per item.
    """
    values = _known(leaf, values)
    if not len(values):
        return math.nan
    if leaf.aggregation == "mean" and values.ndim == 1:
        return float(values.mean())
    rows = values.tolist() if values.ndim == 1 else [tuple(row) for row in values.tolist()]
    try:
        return float(_aggregation(leaf.aggregation)(rows))
    except OverflowError:  # a perplexity beyond the range of float64
        return math.inf


def _present(entry: TaskEntry, scores: Scores) -> list[tuple[Leaf, float]]:
    """Return the leaves that have items, with shares that sum to 1; small leaves may have none in a part or block."""
    present = [leaf for leaf in entry.leaves if leaf.name in scores.items and scores.items[leaf.name].ids]
    if not present:
        raise ValueError(f"the scores hold no items of '{entry.name}'")
    total = sum(leaf.share for leaf in present)
    return [(leaf, leaf.share / total) for leaf in present]


def _known(leaf: Leaf, values: np.ndarray) -> np.ndarray:
    """Return the values of the items that have one; all if the aggregation skips NaN itself."""
    missing = np.isnan(values)
    if leaf.aggregation == "nanmean" or not missing.any():
        return values
    return values[~(missing if missing.ndim == 1 else missing.any(axis=1))]


def _variance_per_item(leaf: Leaf, values: np.ndarray) -> float:
    """Return the number of items times the variance of the leaf's value; NaN for a single item."""
    n = len(values)
    if n < 2:
        return math.nan
    if leaf.aggregation == "mean" and values.ndim == 1:
        return float(values.var(ddof=1))
    generator = np.random.Generator(np.random.PCG64(0))
    resampled = [leaf_value(leaf, values[generator.integers(0, n, n)]) for _ in range(RESAMPLES)]
    return n * float(np.var(resampled, ddof=1)) if np.isfinite(resampled).all() else math.nan


def _merged(leaf: str, pieces: Iterable[ItemScores]) -> ItemScores:
    pieces = list(pieces)
    ids, order = _ascending(tuple(item for piece in pieces for item in piece.ids))
    if len(set(ids)) != len(ids):
        raise ValueError(f"'{leaf}': the blocks score an item twice")
    values = np.concatenate(_of_one_width([piece.values for piece in pieces]))
    known = [piece.facts for piece in pieces if piece.facts is not None]
    facts = np.concatenate(known)[order] if len(known) == len(pieces) else None
    shared = [name for name in pieces[0].by_filter if all(name in piece.by_filter for piece in pieces)]
    by_filter = {name: np.concatenate([piece.by_filter[name] for piece in pieces])[order] for name in shared}
    texts = [answer for piece in pieces for answer in piece.answers]
    answers = tuple(texts[i] for i in order) if len(texts) == len(ids) else ()
    return ItemScores(ids=ids, values=values[order], facts=facts, by_filter=by_filter, answers=answers)


def _of_one_width(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return arrays of item values as (n, k) if one of them is: without any value, those of a block are (n,) NaN."""
    width = max((array.shape[1] for array in arrays if array.ndim > 1), default=0)
    return [np.full((len(a), width), np.nan) if width and a.ndim == 1 and np.isnan(a).all() else a for a in arrays]


@lru_cache(maxsize=128)
def _ascending(ids: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return ids in ascending order and the (n,) permutation; cached, as all candidates have the same ids."""
    numeric = all(item.isdecimal() for item in ids)
    order = sorted(range(len(ids)), key=lambda i: (int(ids[i]) if numeric else 0, ids[i]))
    return tuple(ids[i] for i in order), np.array(order, dtype=np.intp)


@cache
def _aggregation(name: str) -> Callable[[list], float]:
    if ":" in name:
        return load_function(name, root=Path())
    import lm_eval.api.metrics  # noqa: F401  (fills the registry)
    from lm_eval.api.registry import get_aggregation

    function = get_aggregation(name)
    if function is None:
        raise ValueError(unknown("aggregation", name, ()))
    return function

"""Exact selection of the elements of largest magnitude, ties by index.

A histogram over bins of magnitudes gives the bin of the last selected element. Differences of bfloat16 values have few
distinct magnitudes, so most bins hold a single one: then only the index of that element is missing, and one chunk of
2**18 elements contains it. Otherwise, one pass collects the members of the bin.

A search selects from the same tensors many times. A table keeps the number of elements per chunk and group of bins,
which takes under 2 % of the size of a bfloat16 tensor and mostly saves the pass over the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from ....numerics.reductions import CHUNK
from ...mask_cuts import ABOVE_ALL, Cut
from ..launch import addresses, chunks_of, codes, parallel, run
from .histograms import BINS, between_counts, group_counts, grouped, histogram
from .pending_cuts import MOST_COLLECTED, Inputs, PendingCut, PendingGroupCut, PendingIndexCut

SMALL = 1 << 12  # up to this many elements, a selection sorts out all magnitudes, without a table
SHARE = 0.02  # the size of a table at most, relative to the tensor in bfloat16
MOST_GROUPS = 1 << 14  # groups have at least size / MOST_GROUPS elements, if the memory suffices
CACHED_CUTS = 4  # per table


class Magnitudes:
    """The magnitudes of one task vector, or the variances of several; `inputs` are the base and the sources."""

    def __init__(self, inputs: Sequence[torch.Tensor]) -> None:
        self._inputs = Inputs(addresses(inputs), codes(inputs))
        self.size = inputs[0].numel()

    def histogram(self) -> np.ndarray:
        """Return the number of elements in each bin, (BINS,) int64."""
        chunks = chunks_of([self.size], CHUNK)

        def count(first: int, last: int) -> np.ndarray:
            counts = np.zeros(BINS, np.int64)
            histogram(chunks, first, last, *self._inputs.typed, counts)
            return counts

        return np.sum(parallel(count, chunks, pieces=1), axis=0)

    def by_group(self, groups: np.ndarray, count: int) -> np.ndarray:
        """Return the number of elements per chunk and group of bins, (chunks, count) uint32."""
        chunks = chunks_of([self.size], CHUNK)
        counts = np.zeros((len(chunks), count), np.uint32)
        run(group_counts, chunks, *self._inputs.typed, groups, counts)
        return counts

    def between(self, low: int, high: int) -> np.ndarray:
        """Return the number of elements of each chunk with magnitudes in [low, high], (chunks,) int64."""
        chunks = chunks_of([self.size], CHUNK)
        counts = np.empty(len(chunks), np.int64)
        run(between_counts, chunks, *self._inputs.typed, np.uint32(low), np.uint32(high), counts)
        return counts

    def cut(self, low: int, high: int, before: np.ndarray, need: int, on_resolved: Callable[[Cut], None]) -> PendingCut:
        """Return the cut that keeps the `need` largest (at least one) of the elements in [low, high].

        `before` (chunks + 1,) counts those elements in earlier chunks.
        """
        # Bisecting the magnitude takes less memory than collecting the members of a large group.
        while low < high and before[-1] > MOST_COLLECTED:
            middle = low + (high - low + 1) // 2
            upper = np.concatenate(([0], np.cumsum(self.between(middle, high))))
            if upper[-1] >= need:
                low, before = middle, upper
            else:
                high, before, need = middle - 1, before - upper, need - int(upper[-1])
        if low == high:
            chunk = int(np.searchsorted(before, need, side="left")) - 1
            start = chunk * CHUNK
            stop, nth = min(start + CHUNK, self.size), need - int(before[chunk])
            return PendingIndexCut(self._inputs, on_resolved, low, start, stop, nth)
        counts = np.diff(before)
        filled = np.flatnonzero(counts)
        pieces = np.minimum(np.column_stack((filled, filled + 1)) * CHUNK, self.size)
        return PendingGroupCut(self._inputs, on_resolved, low, high, need, pieces, counts[filled])

    def cut_of_all(self, need: int, on_resolved: Callable[[Cut], None]) -> PendingCut:
        """Return the cut that keeps the `need` largest (at least one) of all elements; for small tensors."""
        pieces, counts = np.array([[0, self.size]]), np.array([self.size])
        return PendingGroupCut(self._inputs, on_resolved, 0, ABOVE_ALL, need, pieces, counts)


def largest_once(inputs: Sequence[torch.Tensor], count: int) -> Cut | PendingCut:
    """Select the `count` elements of largest magnitude without building the table; for one-off selections."""
    magnitudes = Magnitudes(inputs)
    if count <= 0 or count >= magnitudes.size:
        return _trivial_cut(magnitudes.size, count)
    if magnitudes.size <= SMALL:
        return magnitudes.cut_of_all(count, _discard)
    bins = magnitudes.histogram()
    above = magnitudes.size - np.cumsum(bins)  # elements in larger bins
    last = int(np.searchsorted(-above, -count, side="right"))  # the bin of the last selected element
    low, high = _limits(last, last)
    before = np.concatenate(([0], np.cumsum(magnitudes.between(low, high))))
    return magnitudes.cut(low, high, before, count - int(above[last]), _discard)


class MagnitudeTable:
    """Counts of magnitudes for repeated selections. Holds no tensors: every call is given the same `inputs`."""

    def __init__(self, inputs: Sequence[torch.Tensor]) -> None:
        self.size = inputs[0].numel()
        self._cuts: dict[int, Cut] = {}
        self._zeros: int | None = None
        if self.size <= SMALL:
            return
        magnitudes = Magnitudes(inputs)
        bins = magnitudes.histogram()
        self._zeros = int(bins[0])
        groups, target = np.empty(BINS, np.uint16), max(1, self.size // MOST_GROUPS)
        while (count := grouped(bins, target, groups)) > self._affordable_groups():
            target *= 2
        filled = np.flatnonzero(bins)
        firsts = np.searchsorted(groups[filled], np.arange(count), side="left")
        lasts = np.searchsorted(groups[filled], np.arange(count), side="right") - 1
        limits = [_limits(int(filled[i]), int(filled[j])) for i, j in zip(firsts, lasts, strict=True)]
        self._limits = np.array(limits, np.uint32)
        by_chunk = magnitudes.by_group(groups, count)
        self._before = np.zeros((len(by_chunk) + 1, count), self._count_dtype())  # elements in earlier chunks
        np.cumsum(by_chunk, axis=0, out=self._before[1:])
        self._below = np.cumsum(self._before[-1].astype(np.int64)) - self.size  # minus the elements in later groups

    def _affordable_groups(self) -> int:
        rows = -(-self.size // CHUNK) + 1
        bytes_per_group = self._count_dtype().itemsize * rows + 16  # see `nbytes`
        return max(1, int(2 * self.size * SHARE) // bytes_per_group)

    def _count_dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint32 if self.size < 1 << 32 else np.int64)

    @property
    def nbytes(self) -> int:
        """The size of the table in bytes."""
        return 0 if self.size <= SMALL else sum(x.nbytes for x in (self._before, self._below, self._limits))

    def nonzero(self, inputs: Sequence[torch.Tensor]) -> int:
        """Return how many magnitudes are not 0."""
        if self._zeros is None:
            self._zeros = int(Magnitudes(inputs).between(0, 0).sum())
        return self.size - self._zeros

    def select(self, count: int, inputs: Sequence[torch.Tensor]) -> Cut | PendingCut:
        """Select the `count` elements of largest magnitude; ties go to the lowest indices."""
        if (cut := self._cuts.get(count)) is not None:
            return cut
        if count <= 0 or count >= self.size:
            return _trivial_cut(self.size, count)
        magnitudes, on_resolved = Magnitudes(inputs), partial(self._keep, count)
        if self.size <= SMALL:
            return magnitudes.cut_of_all(count, on_resolved)
        group = int(np.searchsorted(self._below, -count, side="right"))
        low, high = self._limits[group].tolist()
        need = count + int(self._below[group])
        return magnitudes.cut(low, high, self._before[:, group], need, on_resolved)

    def _keep(self, count: int, cut: Cut) -> None:
        """Cache a cut, keeping only the newest others. Several threads may call this at the same time."""
        others = [(known, other) for known, other in self._cuts.items() if known != count]
        self._cuts = {**dict(others[1 - CACHED_CUTS :]), count: cut}


def _trivial_cut(size: int, count: int) -> Cut:
    """Return the cut that keeps nothing or everything."""
    return Cut(ABOVE_ALL, 0) if count <= 0 else Cut(0, size)


def _discard(_cut: Cut) -> None:
    """Ignore the result: a one-off selection has nothing to cache."""


def _limits(first: int, last: int) -> tuple[int, int]:
    """Return the smallest and the largest magnitude bits of the bins first to last; see histograms.py."""
    return (first >> 1 << 15) + first % 2, (last >> 1 << 15) + (0x7FFF if last % 2 else 0)

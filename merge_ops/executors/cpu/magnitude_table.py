"""Which elements of a task vector are the largest, exactly, ties by index.

Magnitudes fall into bins, mostly of a single one: differences of bfloat16 numbers have few distinct values. A histogram
says in which bin the sought magnitude lies. Where the bin has one, it is known, and the index of the last element that
stays is looked for in one piece of 2**18 elements; else one pass collects the bin's members.

A search asks again and again: a table keeps, per piece and group of bins, how many elements there are, under 2 % of
what a bfloat16 tensor takes, and mostly answers without a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from ...numerics.reductions import CHUNK
from ..mask_cuts import NONE, Cut
from .launch import addresses, chunks_of, codes, parallel, run
from .magnitude_histograms import BINS, between_counts, group_counts, grouped, histogram
from .pending_cuts import COLLECTED, Among, Inputs, Question, Tie

SMALL = 1 << 12  # elements up to which all magnitudes are looked at each time
SHARE = 0.02  # of a bfloat16 tensor's bytes that its table may take
FINEST = 1 << 14  # groups are of at least this part of all elements
KEPT = 4  # answers that are remembered per table


class Magnitudes:
    """The magnitudes of one task vector, or the variances of several; `inputs` are the base and the sources."""

    def __init__(self, inputs: Sequence[torch.Tensor]) -> None:
        self._inputs = Inputs(addresses(inputs), codes(inputs))
        self.size = inputs[0].numel()

    def histogram(self) -> np.ndarray:
        """How many elements there are in each bin, (BINS,) int64."""
        chunks = chunks_of([self.size], CHUNK)

        def count(first: int, last: int) -> np.ndarray:
            counts = np.zeros(BINS, np.int64)
            histogram(chunks, first, last, *self._inputs.typed, counts)
            return counts

        return np.sum(parallel(count, chunks, pieces=1), axis=0)

    def by_group(self, groups: np.ndarray, count: int) -> np.ndarray:
        """How many elements there are per chunk and group of bins, (chunks, count) uint32."""
        chunks = chunks_of([self.size], CHUNK)
        counts = np.zeros((len(chunks), count), np.uint32)
        run(group_counts, chunks, *self._inputs.typed, groups, counts)
        return counts

    def between(self, low: int, high: int) -> np.ndarray:
        """How many elements of each chunk have magnitudes in [low, high], (chunks,) int64."""
        chunks = chunks_of([self.size], CHUNK)
        counts = np.empty(len(chunks), np.int64)
        run(between_counts, chunks, *self._inputs.typed, np.uint32(low), np.uint32(high), counts)
        return counts

    def ask(self, low: int, high: int, before: np.ndarray, need: int, known: Callable[[Cut], None]) -> Question:
        """The cut below which the `need` largest (at least one) of the elements in [low, high] stay.

        `before` (chunks + 1,) is how many of them there are in earlier chunks.
        """
        while low < high and before[-1] > COLLECTED:  # equal numbers, mostly: they are counted, not collected
            middle = low + (high - low + 1) // 2
            upper = np.concatenate(([0], np.cumsum(self.between(middle, high))))
            if upper[-1] >= need:
                low, before = middle, upper
            else:
                high, before, need = middle - 1, before - upper, need - int(upper[-1])
        if low == high:
            chunk = int(np.searchsorted(before, need, side="left")) - 1
            start = chunk * CHUNK
            return Tie(self._inputs, low, start, min(start + CHUNK, self.size), need - int(before[chunk]), known)
        counts = np.diff(before)
        there = np.flatnonzero(counts)
        pieces = np.column_stack((there, there + 1)) * CHUNK
        return Among(self._inputs, low, high, need, np.minimum(pieces, self.size), counts[there], known)

    def ask_all(self, need: int, known: Callable[[Cut], None]) -> Question:
        """The cut below which the `need` largest (at least one) of all elements stay; of small tensors."""
        return Among(self._inputs, 0, NONE, need, np.array([[0, self.size]]), np.array([self.size]), known)


def largest_once(inputs: Sequence[torch.Tensor], count: int) -> Cut | Question:
    """The `count` elements of largest magnitude, for somebody who will not ask again."""
    found = Magnitudes(inputs)
    if count <= 0 or count >= found.size:
        return _simple(found.size, count)
    if found.size <= SMALL:
        return found.ask_all(count, _nobody)
    bins = found.histogram()
    above = found.size - np.cumsum(bins)
    place = int(np.searchsorted(-above, -count, side="right"))
    low, high = _range(place, place)
    before = np.concatenate(([0], np.cumsum(found.between(low, high))))
    return found.ask(low, high, before, count - int(above[place]), _nobody)


class MagnitudeTable:
    """Counts of magnitudes for any number of questions; holds no tensor. `inputs` are the same at each question."""

    def __init__(self, inputs: Sequence[torch.Tensor]) -> None:
        self.size = inputs[0].numel()
        self._answers: dict[int, Cut] = {}
        self._zeros: int | None = None
        if self.size <= SMALL:
            return
        found = Magnitudes(inputs)
        bins = found.histogram()
        self._zeros = int(bins[0])
        groups, target = np.empty(BINS, np.uint16), max(1, self.size // FINEST)
        while (count := grouped(bins, target, groups)) > self._most_groups():
            target *= 2
        filled = np.flatnonzero(bins)
        firsts = np.searchsorted(groups[filled], np.arange(count), side="left")
        lasts = np.searchsorted(groups[filled], np.arange(count), side="right") - 1
        limits = [_range(int(filled[i]), int(filled[j])) for i, j in zip(firsts, lasts, strict=True)]
        self._limits = np.array(limits, np.uint32)
        by_chunk = found.by_group(groups, count)
        self._before = np.zeros((len(by_chunk) + 1, count), self._kind())  # elements in earlier chunks
        np.cumsum(by_chunk, axis=0, out=self._before[1:])
        self._below = np.cumsum(self._before[-1].astype(np.int64)) - self.size  # minus the elements in later groups

    def _most_groups(self) -> int:
        rows = -(-self.size // CHUNK) + 1
        each = self._kind().itemsize * rows + 16  # bytes: see `nbytes`
        return max(1, int(2 * self.size * SHARE) // each)

    def _kind(self) -> np.dtype[Any]:
        return np.dtype(np.uint32 if self.size < 1 << 32 else np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes that the table takes."""
        return 0 if self.size <= SMALL else sum(x.nbytes for x in (self._before, self._below, self._limits))

    def nonzero(self, inputs: Sequence[torch.Tensor]) -> int:
        """How many magnitudes are not 0."""
        if self._zeros is None:
            self._zeros = int(Magnitudes(inputs).between(0, 0).sum())
        return self.size - self._zeros

    def ask(self, count: int, inputs: Sequence[torch.Tensor]) -> Cut | Question:
        """The `count` elements of largest magnitude; among equals the lowest indices come first."""
        if (answer := self._answers.get(count)) is not None:
            return answer
        if count <= 0 or count >= self.size:
            return _simple(self.size, count)
        found, known = Magnitudes(inputs), partial(self._keep, count)
        if self.size <= SMALL:
            return found.ask_all(count, known)
        group = int(np.searchsorted(self._below, -count, side="right"))
        low, high = self._limits[group].tolist()
        return found.ask(low, high, self._before[:, group], count + int(self._below[group]), known)

    def _keep(self, count: int, answer: Cut) -> None:
        """Remember an answer beside the newest others; several threads may come here."""
        others = [(known, cut) for known, cut in self._answers.items() if known != count]
        self._answers = {**dict(others[1 - KEPT :]), count: answer}


def _simple(size: int, count: int) -> Cut:
    """The answers that need no counts."""
    return Cut(NONE, 0) if count <= 0 else Cut(0, size)


def _nobody(_answer: Cut) -> None:
    """Who hears the answer to what is asked once."""


def _range(first: int, last: int) -> tuple[int, int]:
    """The smallest and the largest magnitude bits that bins first to last can hold: see `histograms.py`."""
    return (first >> 1 << 15) + first % 2, (last >> 1 << 15) + (0x7FFF if last % 2 else 0)

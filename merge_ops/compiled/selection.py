"""Which elements of a task vector are the largest, exactly, ties by index.

Magnitudes fall into bins, mostly of a single one: differences of bfloat16 numbers have few distinct values. A histogram
says in which bin the sought magnitude lies. Where the bin has one, it is known, and the index of the last element that
stays is looked for in one piece of 2**18 elements; else one pass collects the bin's members.

A search asks again and again: a table keeps, per piece and group of bins, how many elements there are, under 2 % of
what a bfloat16 tensor takes, and mostly answers without a pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..masks import NONE, Cut
from ..reductions import CHUNK
from .histograms import BINS, between_counts, group_counts, grouped, histogram, magnitudes, members, places_of
from .launch import addresses, chunks_of, codes, parallel, run

SMALL = 1 << 12  # elements up to which all magnitudes are looked at each time
FEWEST, GROUPS = 128, 2048  # a group has at least so many elements, and at least this part of all where it is more
KEPT = 4  # answers that are remembered per table


class Magnitudes:
    """The magnitudes of one task vector, or the variances of all.

    `inputs` are the base first and then the sources; `source` is the place of the one in question.
    """

    def __init__(self, inputs: Sequence[torch.Tensor], source: int) -> None:
        self._at, self._kinds, self._source = addresses(inputs), codes(inputs), source
        self.size = inputs[0].numel()
        self._chunks = chunks_of([self.size], CHUNK)

    def all(self) -> np.ndarray:
        """Every magnitude's bits, (size,) uint32."""
        bits = np.empty(self.size, np.uint32)
        magnitudes(self._at, self._kinds, self._source, 0, self.size, bits)
        return bits

    def histogram(self) -> np.ndarray:
        """How many elements there are in each bin, (BINS,) int64."""

        def count(first: int, last: int) -> np.ndarray:
            counts = np.zeros(BINS, np.int64)
            histogram(self._chunks, first, last, self._at, self._kinds, self._source, counts)
            return counts

        return np.sum(parallel(count, self._chunks, pieces=1), axis=0)

    def by_group(self, groups: np.ndarray, count: int) -> np.ndarray:
        """How many elements there are per chunk and group of bins, (chunks, count) uint32."""
        counts = np.zeros((len(self._chunks), count), np.uint32)
        run(group_counts, self._chunks, self._at, self._kinds, self._source, groups, counts)
        return counts

    def between(self, low: int, high: int) -> np.ndarray:
        """How many elements of each chunk have magnitudes in [low, high], (chunks,) int64."""
        counts = np.empty(len(self._chunks), np.int64)
        limits = (np.uint32(low), np.uint32(high))
        run(between_counts, self._chunks, self._at, self._kinds, self._source, *limits, counts)
        return counts

    def cut_between(self, low: int, high: int, before: np.ndarray, need: int) -> Cut:
        """The cut below which `need` elements (at least one) of those in [low, high] stay.

        `before` (chunks + 1,) is how many of them there are in earlier chunks.
        """
        if low == high:
            return answers([_question(self._at, self._kinds, self._source, self.size, low, before, need)])[0]
        offsets = before.astype(np.int64)
        bits, indices = np.empty(offsets[-1], np.uint32), np.empty(offsets[-1], np.int64)
        limits = (np.uint32(low), np.uint32(high))
        run(members, self._chunks, self._at, self._kinds, self._source, *limits, offsets, bits, indices)
        return _select(bits, indices, need)


@dataclass(frozen=True)
class Question:
    """A cut that is known but for one index: that of the nth element of its magnitude in [start, stop)."""

    at: np.ndarray
    kinds: np.ndarray
    source: int
    bits: int
    start: int
    stop: int
    nth: int


def _question(
    at: np.ndarray, kinds: np.ndarray, source: int, size: int, bits: int, before: np.ndarray, need: int
) -> Question:
    """What is left to look up of a cut below which `need` elements of one magnitude stay.

    `before` (chunks + 1,) is how many of them there are in earlier chunks.
    """
    chunk = int(np.searchsorted(before, need, side="left")) - 1
    start = chunk * CHUNK
    return Question(at, kinds, source, bits, start, min(start + CHUNK, size), need - int(before[chunk]))


def answers(asked: Sequence[Cut | Question]) -> list[Cut]:
    """The cuts; all that are questions, of equally many inputs, are looked up by one launch."""
    questions = [x for x in asked if isinstance(x, Question)]
    if not questions:
        return [x for x in asked if isinstance(x, Cut)]
    order = np.array([(i, x.start, x.stop) for i, x in enumerate(questions)], np.int64)
    at, kinds = np.stack([x.at for x in questions]), np.stack([x.kinds for x in questions])
    sources, nths = (np.array([getattr(x, name) for x in questions], np.int64) for name in ("source", "nth"))
    bits, places = np.array([x.bits for x in questions], np.uint32), np.empty(len(questions), np.int64)
    run(places_of, order, at, kinds, sources, bits, nths, places)
    found = iter(places.tolist())
    return [Cut(x.bits, next(found) + 1) if isinstance(x, Question) else x for x in asked]


def largest_once(inputs: Sequence[torch.Tensor], source: int, count: int) -> Cut:
    """The `count` elements of largest magnitude, for somebody who will not ask again."""
    found = Magnitudes(inputs, source)
    if simple := _simple(found, count):
        return simple
    bins = found.histogram()
    above = found.size - np.cumsum(bins)
    place = int(np.searchsorted(-above, -count, side="right"))
    low, high = _range(place, place)
    before = np.concatenate(([0], np.cumsum(found.between(low, high))))
    return found.cut_between(low, high, before, count - int(above[place]))


class MagnitudeTable:
    """Counts of magnitudes for any number of questions; holds no tensor. `inputs` are the same at each question."""

    def __init__(self, inputs: Sequence[torch.Tensor], source: int) -> None:
        self.source, self.size = source, inputs[0].numel()
        self._answers: dict[int, Cut] = {}
        if self.size <= SMALL:
            return
        found = Magnitudes(inputs, source)
        bins = found.histogram()
        groups = np.empty(BINS, np.uint16)
        count = grouped(bins, max(FEWEST, self.size // GROUPS), groups)
        filled = np.flatnonzero(bins)
        firsts = np.searchsorted(groups[filled], np.arange(count), side="left")
        lasts = np.searchsorted(groups[filled], np.arange(count), side="right") - 1
        self._limits = np.array([_range(int(filled[i]), int(filled[j])) for i, j in zip(firsts, lasts, strict=True)])
        by_chunk = found.by_group(groups, count)
        kind = np.uint32 if self.size < 1 << 32 else np.int64
        self._before = np.zeros((len(by_chunk) + 1, count), kind)  # elements in earlier chunks
        np.cumsum(by_chunk, axis=0, out=self._before[1:])
        self._below = np.cumsum(self._before[-1].astype(np.int64)) - self.size  # minus the elements in later groups

    @property
    def nbytes(self) -> int:
        """Bytes that the table takes."""
        return 0 if self.size <= SMALL else sum(x.nbytes for x in (self._before, self._below, self._limits))

    def nonzero(self, inputs: Sequence[torch.Tensor]) -> int:
        """How many magnitudes are not 0."""
        found = Magnitudes(inputs, self.source)
        if self.size <= SMALL:
            return int(np.count_nonzero(found.all()))
        return self.size - int(found.between(0, 0).sum())

    def cut(self, count: int, inputs: Sequence[torch.Tensor]) -> Cut:
        """The `count` elements of largest magnitude; among equals the lowest indices come first."""
        return self.known(count, answers([self.ask(count, inputs)])[0])

    def ask(self, count: int, inputs: Sequence[torch.Tensor]) -> Cut | Question:
        """As `cut`, but what takes a look at the tensor may be left as a question, to be answered with others."""
        if count in self._answers:
            return self._answers[count]
        if self.size <= SMALL or not 0 < count < self.size:
            simple = _simple(Magnitudes(inputs, self.source), count)
            assert simple is not None, "Should not reach."
            return self.known(count, simple)
        group = int(np.searchsorted(self._below, -count, side="right"))
        (low, high), before = map(int, self._limits[group]), self._before[:, group]
        need = count + int(self._below[group])
        if low == high:
            return _question(addresses(inputs), codes(inputs), self.source, self.size, low, before, need)
        return self.known(count, Magnitudes(inputs, self.source).cut_between(low, high, before, need))

    def known(self, count: int, answer: Cut) -> Cut:
        """Keep an answer, in place of the oldest where there are many."""
        if count not in self._answers and len(self._answers) >= KEPT:
            self._answers.pop(next(iter(self._answers)))
        self._answers[count] = answer
        return answer


def _simple(found: Magnitudes, count: int) -> Cut | None:
    """The answers that need no counts."""
    if count <= 0:
        return Cut(NONE, 0)
    if count >= found.size:
        return Cut(0, found.size)
    return _select(found.all(), np.arange(found.size), count) if found.size <= SMALL else None


def _range(first: int, last: int) -> tuple[int, int]:
    """The smallest and the largest magnitude bits that bins first to last can hold: see `histograms.py`."""
    return (first >> 1 << 15) + first % 2, (last >> 1 << 15) + (0x7FFF if last % 2 else 0)


def _select(bits: np.ndarray, indices: np.ndarray, count: int) -> Cut:
    """The `count` largest of `bits`, which stand in the order of their `indices`."""
    threshold = int(np.partition(bits, len(bits) - count)[len(bits) - count])
    ties = count - int(np.count_nonzero(bits > threshold))
    return Cut(threshold, int(indices[np.flatnonzero(bits == threshold)[ties - 1]]) + 1)

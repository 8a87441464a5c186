"""Which elements of a task vector are the largest, for any number of them, from counts that are made once.

A table has, per chunk of 2**18 elements and per group of magnitudes, how many elements there are: under 2 % of what a
bfloat16 tensor takes. It answers at once where the sought magnitude is alone in its group, as most are between bfloat16
fine-tunes, after a look at one chunk for the index; else after one pass that collects the group's members.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..masks import NONE, Cut
from ..reductions import CHUNK, INFINITE, fixed_exponent
from .histograms import BINS, group_counts, grouped, histogram, magnitudes, members, place_of
from .launch import addresses, chunks_of, codes, parallel, run

SMALL = 1 << 12  # elements up to which all magnitudes are looked at each time
FEWEST, GROUPS = 256, 1024  # a group has at least so many elements, and at least this part of all where it is more
KEPT = 4  # answers that are remembered per table


class MagnitudeTable:
    """Counts of the magnitudes of one task vector, or of the variances of all; holds no tensor.

    `inputs` are the base first and then the sources, here and later the same; `source` is the place of the one in
    question.
    """

    def __init__(self, inputs: Sequence[torch.Tensor], source: int) -> None:
        self.source, self.size = source, inputs[0].numel()
        self._answers: dict[int, Cut] = {}
        at, kinds = addresses(inputs), codes(inputs)
        if self.size <= SMALL:
            self.exponent = fixed_exponent(_value(int(self._all(at, kinds).max(initial=0))))
        else:
            self._build(at, kinds)

    @property
    def finite(self) -> bool:
        """Whether no magnitude is infinite or no number."""
        return self.exponent != INFINITE

    @property
    def nbytes(self) -> int:
        """Bytes that the table takes."""
        if self.size <= SMALL:
            return 0
        return sum(x.nbytes for x in (self._before, self._counts, self._sums, self._lows, self._highs))

    def total(self, inputs: Sequence[torch.Tensor]) -> int:
        """The fixed-point sum of all magnitudes."""
        return self.cut(self.size, inputs).kept

    def nonzero(self, inputs: Sequence[torch.Tensor]) -> int:
        """How many magnitudes are not 0."""
        if self.size <= SMALL:
            return int(np.count_nonzero(self._all(addresses(inputs), codes(inputs))))
        # Zero has a bin, and so, unless rare, a group of its own; if not, count the members of its group.
        if self._lows[0] != 0:
            return self.size
        if self._highs[0] == 0:
            return self.size - int(self._counts[0])
        return self.size - int(np.count_nonzero(self._members(0, addresses(inputs), codes(inputs))[0] == 0))

    def cut(self, count: int, inputs: Sequence[torch.Tensor]) -> Cut:
        """The `count` elements of largest magnitude; among equals the lowest indices come first."""
        count = max(0, min(count, self.size))
        if count not in self._answers:
            if len(self._answers) >= KEPT:
                self._answers.pop(next(iter(self._answers)))
            self._answers[count] = self._cut(count, addresses(inputs), codes(inputs))
        return self._answers[count]

    def _cut(self, count: int, at: np.ndarray, kinds: np.ndarray) -> Cut:
        if count == 0:
            return Cut(NONE, 0, 0)
        if self.size <= SMALL:
            bits = self._all(at, kinds)
            return _select(bits, np.arange(self.size), count, self.exponent)
        # Groups ascend; `above[g]` elements are in groups beyond g.
        above = self.size - np.cumsum(self._counts)
        group = int(np.searchsorted(-above, -count, side="right"))
        need, beyond = count - int(above[group]), int(self._sums[group + 1 :].sum())
        low = int(self._lows[group])
        if low == self._highs[group]:
            # One magnitude: its `need`th element by index is in the chunk where the count passes it.
            before = self._before[:, group]
            chunk = int(np.searchsorted(before, need, side="left")) - 1
            start = chunk * CHUNK
            stop = min(self.size, start + CHUNK)
            place = place_of(at, kinds, self.source, start, stop, np.uint32(low), need - int(before[chunk]))
            return Cut(low, int(place) + 1, beyond + need * _fixed(low, self.exponent))
        bits, indices = self._members(group, at, kinds)
        cut = _select(bits, indices, need, self.exponent)
        return Cut(cut.bits, cut.bound, beyond + cut.kept)

    def _all(self, at: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        bits = np.empty(self.size, np.uint32)
        magnitudes(at, kinds, self.source, 0, self.size, bits)
        return bits

    def _build(self, at: np.ndarray, kinds: np.ndarray) -> None:
        chunks = chunks_of([self.size], CHUNK)

        def count_bins(first: int, last: int) -> np.ndarray:
            counts = np.zeros(BINS, np.int64)
            histogram(chunks, first, last, at, kinds, self.source, counts)
            return counts

        bins = np.sum(parallel(count_bins, chunks), axis=0)
        # The upper bits of the largest magnitude are enough to know its exponent, or that it is not finite.
        self.exponent = fixed_exponent(_value(int(np.flatnonzero(bins)[-1]) >> 1 << 15))
        groups = np.empty(BINS, np.uint16)
        size = grouped(bins, max(FEWEST, self.size // GROUPS), groups)
        counts = np.zeros((len(chunks), size), np.uint32)
        scale = np.float32(0.0 if self.exponent == INFINITE else 2.0**self.exponent)

        def count_groups(first: int, last: int) -> tuple[np.ndarray, ...]:
            sums, lows, highs = np.zeros(size, np.int64), np.full(size, NONE, np.uint32), np.zeros(size, np.uint32)
            group_counts(chunks, first, last, at, kinds, self.source, groups, scale, counts, sums, lows, highs)
            return sums, lows, highs

        sums, lows, highs = zip(*parallel(count_groups, chunks), strict=True)
        self._sums, self._lows, self._highs = np.sum(sums, axis=0), np.min(lows, axis=0), np.max(highs, axis=0)
        self._before = np.zeros((len(chunks) + 1, size), np.uint32)  # elements in earlier chunks
        np.cumsum(counts, axis=0, out=self._before[1:])
        self._counts = self._before[-1].astype(np.int64)

    def _members(self, group: int, at: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        chunks = chunks_of([self.size], CHUNK)
        offsets = np.concatenate(([0], np.cumsum(np.diff(self._before[:, group].astype(np.int64)))))
        bits, indices = np.empty(offsets[-1], np.uint32), np.empty(offsets[-1], np.int64)
        low, high = self._lows[group], self._highs[group]
        run(members, chunks, at, kinds, self.source, low, high, offsets, bits, indices)
        return bits, indices


def _select(bits: np.ndarray, indices: np.ndarray, count: int, exponent: int) -> Cut:
    """The `count` largest of `bits`, which stand in the order of their `indices`."""
    threshold = int(np.partition(bits, len(bits) - count)[len(bits) - count])
    greater = bits > threshold
    ties = count - int(np.count_nonzero(greater))
    bound = int(indices[np.flatnonzero(bits == threshold)[ties - 1]]) + 1
    kept = int(_fixed_all(bits[greater], exponent).sum()) + ties * _fixed(threshold, exponent)
    return Cut(threshold, bound, kept)


def _value(bits: int) -> float:
    return float(np.uint32(bits).view(np.float32))


def _fixed_all(bits: np.ndarray, exponent: int) -> np.ndarray:
    if exponent == INFINITE:
        return np.zeros(len(bits), np.int64)
    return (bits.view(np.float32).astype(np.float64) * 2.0**exponent).astype(np.int64)


def _fixed(bits: int, exponent: int) -> int:
    return int(_fixed_all(np.array([bits], np.uint32), exponent)[0])

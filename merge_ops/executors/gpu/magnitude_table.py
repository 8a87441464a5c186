"""Which elements of a task vector, or of the variance of several, are the largest, from counts that are made once.

A table has, per chunk of 2**18 elements and per group of magnitudes, how many elements there are: under 2 % of what a
bfloat16 tensor takes, in the host's memory. Where the sought magnitude is alone in its group, as most are between
bfloat16 fine-tunes, a look at one chunk gives the index from which on equal ones go; else a pass collects the group's
members. Both happen on the device, and the host does not wait for them (`resolve.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ...methods.sce import variance
from ...numerics.reductions import CHUNK, INFINITE, fixed_exponent
from ..mask_cuts import NONE, Cut

Inputs = tuple[torch.Tensor, ...]  # the base, and a source: its task vector counts; or several: their variance
SMALL = 1 << 14  # elements up to which all are kept in order, in the host's memory
FEWEST, GROUPS = 256, 4096  # a group has about so many elements, and about this part of all where it is more
ROWS = 64  # chunks that are sorted at a time
BINS = 1 << 17  # see `_bin_starts`


@dataclass(frozen=True)
class Tie:
    """The elements above magnitude `bits`, and of those that equal it all before the nth in [start, stop), and it."""

    bits: int
    start: int
    stop: int
    nth: int
    kept: int


@dataclass(frozen=True)
class Among:
    """The elements above magnitude `high`, and the `need` largest of the `members` in [low, high]."""

    low: int
    high: int
    members: int
    need: int
    above: int  # fixed-point sum of the elements above
    inputs: Inputs
    exponent: int

    @property
    def kept(self) -> int:
        """The fixed-point sum of all these elements; the host waits for it."""
        size = self.inputs[0].numel()
        parts = [magnitude_bits(self.inputs, i, min(size, i + ROWS * CHUNK)) for i in range(0, size, ROWS * CHUNK)]
        bits = torch.cat([part[(part >= self.low) & (part <= self.high)] for part in parts])
        return self.above + int(fixed(bits.sort(descending=True).values[: self.need], self.exponent).sum())


class MagnitudeTable:
    """Counts of the magnitudes of one task vector, or of the variances of several; holds no tensor."""

    def __init__(self, inputs: Inputs) -> None:
        self.size = inputs[0].numel()
        if self.size <= SMALL:
            bits = magnitude_bits(inputs, 0, self.size).cpu()
            self.exponent = fixed_exponent(_value(int(bits.max())))
            self._bits, self._order = (part.numpy() for part in bits.sort(descending=True, stable=True))
            sums = fixed(torch.from_numpy(self._bits), self.exponent).cumsum(0).numpy()
            self._kept = np.concatenate(([0], sums))
            self.nonzero = int(np.count_nonzero(self._bits))  # how many magnitudes are not 0
        else:
            self._count(inputs)

    @property
    def finite(self) -> bool:
        """Whether no magnitude is infinite or no number."""
        return self.exponent != INFINITE

    @property
    def nbytes(self) -> int:
        """Bytes of the host's memory that the table takes."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    @property
    def total(self) -> int:
        """The fixed-point sum of all magnitudes."""
        return int(self._kept[-1] if self.size <= SMALL else self._kept_from[0])

    def select(self, count: int, inputs: Inputs) -> Cut | Tie | Among:
        """The `count` elements of largest magnitude; among equals the lowest indices come first."""
        count = max(0, min(count, self.size))
        if count == 0:
            return Cut(NONE, 0, 0)
        if self.size <= SMALL:
            return Cut(int(self._bits[count - 1]), int(self._order[count - 1]) + 1, int(self._kept[count]))
        # Groups ascend; `_from[g]` elements are in group g and beyond.
        group = int(np.searchsorted(-self._from, -count, side="right")) - 1
        need, above = count - int(self._from[group + 1]), int(self._kept_from[group + 1])
        low, high = int(self._lows[group]), int(self._highs[group])
        before = self._before[group]
        if low != high:
            return Among(low, high, int(before[-1]), need, above, inputs, self.exponent)
        # One magnitude: its `need`th element by index is in the chunk where the count passes it.
        chunk = int(np.searchsorted(before, need, side="left")) - 1
        start, kept = chunk * CHUNK, above + need * int(self._fixed[group])
        return Tie(low, start, min(self.size, start + CHUNK), need - int(before[chunk]), kept)

    def _count(self, inputs: Inputs) -> None:
        device = inputs[0].device
        edges = _bin_starts().to(device)
        bins = torch.zeros(BINS, dtype=torch.int64, device=device)
        for rows in sorted_chunks(inputs):
            bins += _counts(_positions(rows, edges)).sum(0)
        self.nonzero = self.size - int(bins[0])
        edges, largest = _group_starts(bins.cpu().numpy(), self.size)
        # The upper bits of the largest magnitude are enough to know its exponent, or that it is not finite.
        self.exponent = fixed_exponent(_value(largest))
        starts, parts = torch.from_numpy(edges).to(device), []
        for rows in sorted_chunks(inputs):
            places = _positions(rows, starts)
            sums = torch.nn.functional.pad(fixed(rows, self.exponent).cumsum(1), (1, 0)).gather(1, places).diff(dim=1)
            counts = _counts(places)
            lows = rows.gather(1, places[:, :-1].clamp(max=rows.shape[1] - 1)).masked_fill_(counts == 0, 0x7FFFFFFF)
            highs = rows.gather(1, (places[:, 1:] - 1).clamp(min=0)).masked_fill_(counts == 0, 0)
            parts.append((counts.to(torch.int32), sums.sum(0), lows.amin(0), highs.amax(0)))
        counts, sums, lows, highs = ([x.cpu().numpy() for x in column] for column in zip(*parts, strict=True))
        self._lows, self._highs = np.min(lows, axis=0), np.max(highs, axis=0)
        in_chunks = np.concatenate(counts).astype(np.int64)
        # Elements in earlier chunks, a row per group.
        self._before = np.concatenate((np.zeros((1, len(edges)), np.int64), np.cumsum(in_chunks, axis=0))).T.copy()
        self._from = _sums_from(self._before[:, -1])
        self._kept_from = _sums_from(np.sum(sums, axis=0))
        self._fixed = fixed(torch.from_numpy(self._lows), self.exponent).numpy()
        if self.size < 1 << 32:
            self._before = self._before.astype(np.uint32)


def magnitude_bits(inputs: Inputs, start: int, stop: int) -> torch.Tensor:
    """Magnitudes of the elements [start, stop) as float32 bits, int32."""
    base, *sources = (x.reshape(-1)[start:stop].float() for x in inputs)
    deltas = [source - base for source in sources]
    return (deltas[0] if len(deltas) == 1 else variance(deltas)).abs_().view(torch.int32)


def fixed(bits: torch.Tensor, exponent: int) -> torch.Tensor:
    """Magnitudes as whole numbers, int64; see `reductions.fixed_exponent`."""
    if exponent == INFINITE:
        return torch.zeros(bits.shape, dtype=torch.int64, device=bits.device)
    return (bits.contiguous().view(torch.float32).double() * 2.0**exponent).to(torch.int64)


def sorted_chunks(inputs: Inputs) -> Iterator[torch.Tensor]:
    """Magnitude bits, ascending within each chunk, (chunks, length) int32; the last chunk may come alone."""
    size = inputs[0].numel()
    whole = size // CHUNK * CHUNK
    for start in range(0, whole, ROWS * CHUNK):
        yield magnitude_bits(inputs, start, min(whole, start + ROWS * CHUNK)).view(-1, CHUNK).sort(dim=1).values
    if whole < size:
        yield magnitude_bits(inputs, whole, size).sort().values[None]


def _positions(rows: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Where intervals that begin at `starts` begin in every row, and where the row ends, int64."""
    places = torch.searchsorted(rows, starts.expand(len(rows), -1).contiguous())
    return torch.nn.functional.pad(places, (0, 1), value=rows.shape[1])


def _counts(positions: torch.Tensor) -> torch.Tensor:
    return positions.diff(dim=1)


def _bin_starts() -> torch.Tensor:
    """Where bins of magnitudes begin, int32: one bin for each that ends in 15 zeros, one for those up to the next.

    Differences of bfloat16 numbers mostly end in zeros, so that most bins hold one value.
    """
    upper = torch.arange(BINS // 2, dtype=torch.int32) << 15
    return torch.stack([upper, upper + 1], dim=1).reshape(-1)


def _group_starts(counts: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """Where groups of neighbouring bins begin, and where the last bin with an element begins, int32.

    A bin of one value that is frequent alone is a group of its own.
    """
    target = max(FEWEST, size // GROUPS)
    places = np.flatnonzero(counts)
    alone = (places % 2 == 0) & (counts[places] >= target)
    portion = (np.cumsum(counts[places]) - counts[places]) // target
    begins = alone.copy()
    begins[0] = True
    begins[1:] |= alone[:-1] | (portion[1:] != portion[:-1])
    starts = _bin_starts().numpy()
    return starts[places[begins]], int(starts[places[-1]])


def _sums_from(values: np.ndarray) -> np.ndarray:
    """Sums of all values from a place on, and 0 at the end, int64."""
    return np.concatenate((np.cumsum(values[::-1].astype(np.int64))[::-1], [0]))


def _value(bits: int) -> float:
    return float(np.uint32(bits).view(np.float32))

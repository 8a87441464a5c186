"""Exact selection of the elements of largest magnitude from counts that are computed once.

A table has the number of elements per chunk of 2**18 elements and group of magnitudes, under 2 % of the size of a
bfloat16 tensor, in the host's memory. If the wanted magnitude is alone in its group, as most are between bfloat16
fine-tunes, one chunk has the last selected index; else a pass collects the group's members. Both passes run on the
device, and the host does not wait for them; see pending_cuts.py.
"""

from __future__ import annotations

import numpy as np
import torch

from ....numerics.reductions import CHUNK, INFINITE, fixed_exponent
from ...mask_cuts import ABOVE_ALL, Cut
from .histograms import group_starts, histogram, positions, sorted_chunks
from .pending_cuts import PendingCut, PendingGroupCut, PendingIndexCut
from .values import Inputs, fixed, magnitude_bits

SMALL = 1 << 14  # elements up to which all are kept in order, in the host's memory


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
        """Whether no magnitude is infinite or NaN."""
        return self.exponent != INFINITE

    @property
    def nbytes(self) -> int:
        """The size of the table in the host's memory, in bytes."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    @property
    def total(self) -> int:
        """The fixed-point sum of all magnitudes."""
        return int(self._kept[-1] if self.size <= SMALL else self._kept_from[0])

    def select(self, count: int, inputs: Inputs) -> Cut | PendingCut:
        """Select the `count` elements of largest magnitude; among equals the lowest indices come first."""
        count = max(0, min(count, self.size))
        if count == 0:
            return Cut(ABOVE_ALL, 0, 0)
        if self.size <= SMALL:
            return Cut(int(self._bits[count - 1]), int(self._order[count - 1]) + 1, int(self._kept[count]))
        # Groups ascend; `_from[g]` elements are in group g and beyond.
        group = int(np.searchsorted(-self._from, -count, side="right")) - 1
        need, above = count - int(self._from[group + 1]), int(self._kept_from[group + 1])
        low, high = int(self._lows[group]), int(self._highs[group])
        before = self._before[group]
        if low != high:
            return PendingGroupCut(low, high, int(before[-1]), need, above, inputs, self.exponent)
        # One magnitude: its `need`th element by index is in the first chunk whose cumulative count reaches `need`.
        chunk = int(np.searchsorted(before, need, side="left")) - 1
        start, kept = chunk * CHUNK, above + need * int(self._fixed[group])
        stop, nth = min(self.size, start + CHUNK), need - int(before[chunk])
        return PendingIndexCut(low, start, stop, nth, kept)

    def _count(self, inputs: Inputs) -> None:
        bins = histogram(inputs)
        self.nonzero = self.size - int(bins[0])
        starts, largest = group_starts(bins, self.size)
        # The upper bits of the largest magnitude are enough to know its exponent, or that it is not finite.
        self.exponent = fixed_exponent(_value(largest))
        on_device = torch.from_numpy(starts).to(inputs[0].device)
        parts = [_group_counts(rows, on_device, self.exponent) for rows in sorted_chunks(inputs)]
        counts, sums, lows, highs = ([x.cpu().numpy() for x in column] for column in zip(*parts, strict=True))
        self._lows, self._highs = np.min(lows, axis=0), np.max(highs, axis=0)
        in_chunks = np.concatenate(counts).astype(np.int64)
        # Elements in earlier chunks, a row per group.
        self._before = np.concatenate((np.zeros((1, len(starts)), np.int64), np.cumsum(in_chunks, axis=0))).T.copy()
        self._from = _sums_from(self._before[:, -1])
        self._kept_from = _sums_from(np.sum(sums, axis=0))
        self._fixed = fixed(torch.from_numpy(self._lows), self.exponent).numpy()
        if self.size < 1 << 32:
            self._before = self._before.astype(np.uint32)


def _group_counts(rows: torch.Tensor, starts: torch.Tensor, exponent: int) -> tuple[torch.Tensor, ...]:
    """Return, of sorted chunks: counts per chunk and group; fixed-point sum, smallest and largest bits per group."""
    begins = positions(rows, starts)
    counts = begins.diff(dim=1)
    # A group's sum is a difference of cumulative sums; whole numbers, so that nothing is rounded.
    sums = torch.nn.functional.pad(fixed(rows, exponent).cumsum(1), (1, 0)).gather(1, begins).diff(dim=1)
    lows = rows.gather(1, begins[:, :-1].clamp(max=rows.shape[1] - 1)).masked_fill_(counts == 0, 0x7FFFFFFF)
    highs = rows.gather(1, (begins[:, 1:] - 1).clamp(min=0)).masked_fill_(counts == 0, 0)
    return counts.to(torch.int32), sums.sum(0), lows.amin(0), highs.amax(0)


def _sums_from(values: np.ndarray) -> np.ndarray:
    """Return the sum of the values from each place on, and 0 at the end, int64."""
    return np.concatenate((np.cumsum(values[::-1].astype(np.int64))[::-1], [0]))


def _value(bits: int) -> float:
    return float(np.uint32(bits).view(np.float32))

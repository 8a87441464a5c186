"""Counts of task vectors for masked sums, computed by torch operations on the device; see `mask_cuts.Counts`."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from ...numerics.random_masks import LEVELS, keep_mask
from ..job import TensorJob
from ..mask_cuts import Cut, SourceMask
from .magnitudes.pending_cuts import PendingCut
from .magnitudes.table import SMALL, MagnitudeTable
from .magnitudes.values import Inputs, fixed, magnitude_bits
from .rank_masks import PIECE, hash_levels, rank_mask

WORTH_A_TABLE = 1 << 21  # elements from which sums by hash are cached, 512 KiB of the host's memory per source


class TaskVectorCounts:
    """The counts of one job's task vectors, and its masks by rank."""

    def __init__(self, job: TensorJob) -> None:
        self._job, self._inputs, self._size = job, job.base_and_sources, job.out.numel()
        self._tables: dict[int, MagnitudeTable] = {}
        self._masks: dict[int, torch.Tensor] = {}

    def table(self, position: int) -> MagnitudeTable:
        """Return the counts of one source's task vector, computed once."""
        if position not in self._tables:
            make = partial(MagnitudeTable, self.pair(position))
            self._tables[position] = self._job.remember(self._indices(position), "magnitudes", make)
        return self._tables[position]

    def exponent(self, position: int) -> int:
        """Return `reductions.fixed_exponent` of one task vector."""
        return self.table(position).exponent

    def total(self, position: int) -> int:
        """Return the fixed-point sum of all magnitudes."""
        return self.table(position).total

    def select(self, position: int, count: int) -> Cut | PendingCut:
        """Select the `count` elements of largest magnitude; among equals the lowest indices come first."""
        return self.table(position).select(count, self.pair(position))

    def kept(self, position: int, low: Cut | PendingCut, high: Cut | PendingCut) -> int:
        """Return the fixed-point sum of the magnitudes in `low` and not in `high`."""
        return low.kept - high.kept

    def kept_by_hash(self, position: int, key: tuple[int, int], share: int) -> int:
        """Return the fixed-point sum of the magnitudes whose hash is below `share`."""
        pair, exponent = self.pair(position), self.table(position).exponent
        if SMALL < self._size < WORTH_A_TABLE:
            mask = keep_mask(key, share / LEVELS, torch.Size([self._size]), pair[0].device)
            return int(fixed(magnitude_bits(pair, 0, self._size) * mask, exponent).sum())
        make = partial(_sums_below, pair, exponent, key)
        levels, sums = self._job.remember(self._indices(position), ("sums by hash", key), make)
        return int(sums[np.searchsorted(levels, share)])

    def kept_by_rank(self, position: int, key: tuple[int, int], levels: np.ndarray) -> int:
        """Return the fixed-point sum of the magnitudes whose hash is below levels[rank]."""
        pair, exponent = self.pair(position), self.table(position).exponent
        self._masks[position] = mask = rank_mask(pair, key, levels)
        parts = (slice(start, start + PIECE) for start in range(0, self._size, PIECE))
        kept = [fixed(magnitude_bits(pair, part.start, part.stop) * mask[part], exponent).sum() for part in parts]
        return int(torch.stack(kept).sum())

    def mask(self, position: int, mask: SourceMask) -> torch.Tensor:
        """Return which elements of a source are kept in a sum with masks by rank, bool."""
        pair = self.pair(position)
        if mask.levels is None:
            return keep_mask(mask.key, mask.share / LEVELS, torch.Size([self._size]), pair[0].device)
        return self._masks[position] if position in self._masks else rank_mask(pair, mask.key, mask.levels)

    def pair(self, position: int) -> Inputs:
        """Return the base and one source."""
        return (self._inputs[0], self._inputs[position + 1])

    def _indices(self, position: int) -> tuple[int, int]:
        return (self._job.base or 0, self._job.sources[position])


def _sums_below(pair: Inputs, exponent: int, key: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return hash levels, ascending, and the fixed-point sums of the magnitudes of lower levels than each, int64.

    There is one more sum than levels: that of all.
    """
    size, device = pair[0].numel(), pair[0].device
    if size <= SMALL:
        levels, order = hash_levels(key, 0, size, device).cpu().sort()
        sums = fixed(magnitude_bits(pair, 0, size), exponent).cpu()[order]
    else:
        levels, sums = torch.arange(LEVELS), torch.zeros(LEVELS, dtype=torch.int64, device=device)
        for start in range(0, size, PIECE):
            stop = min(size, start + PIECE)
            values = fixed(magnitude_bits(pair, start, stop), exponent)
            sums.index_add_(0, hash_levels(key, start, stop, device), values)  # integers: the order does not matter
        sums = sums.cpu()
    return levels.to(torch.int32).numpy(), torch.nn.functional.pad(sums.cumsum(0), (1, 0)).numpy()

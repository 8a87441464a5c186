"""What masked sums need to know of task vectors, counted on the device by torch operations."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from ...numerics.random_masks import LEVELS, hash_bits, keep_mask
from ...numerics.top_k import ranks
from ..job import TensorJob
from ..mask_cuts import Cut, SourceNumbers, row_length
from .magnitude_table import SMALL, Among, Inputs, MagnitudeTable, Tie, fixed, magnitude_bits

WORTH_A_TABLE = 1 << 21  # elements from which sums by hash are kept, 512 KiB of the host's memory per source
PIECE = 1 << 24  # elements at a time; divides 2**32


class TaskVectorCounts:
    """The counts of one work's task vectors; see `masks.Counts`. Masks by rank that it had to make are in `masks`."""

    def __init__(self, work: TensorJob) -> None:
        self._work, self._size = work, work.out.numel()
        self._sources, self.inputs = work.sources, work.based
        self._tables: dict[int, MagnitudeTable] = {}
        self.masks: dict[int, torch.Tensor] = {}

    def table(self, position: int) -> MagnitudeTable:
        """The counts of one source's task vector, made once."""
        if position not in self._tables:
            make = partial(MagnitudeTable, self._pair(position))
            self._tables[position] = self._work.remember(self._places(position), "magnitudes", make)
        return self._tables[position]

    def exponent(self, position: int) -> int:
        """See `reductions.fixed_exponent`, of one task vector."""
        return self.table(position).exponent

    def total(self, position: int) -> int:
        """The fixed-point sum of all magnitudes."""
        return self.table(position).total

    def select(self, position: int, count: int) -> Cut | Tie | Among:
        """The `count` elements of largest magnitude; among equals the lowest indices come first."""
        return self.table(position).select(count, self._pair(position))

    def kept(self, position: int, low: Cut | Tie | Among, high: Cut | Tie | Among) -> int:
        """The fixed-point sum of the magnitudes in `low` and not in `high`."""
        return low.kept - high.kept

    def kept_by_hash(self, position: int, key: tuple[int, int], share: int) -> int:
        """The fixed-point sum of the magnitudes whose hash is below `share`."""
        pair, exponent = self._pair(position), self.table(position).exponent
        if SMALL < self._size < WORTH_A_TABLE:
            mask = keep_mask(key, share / LEVELS, torch.Size([self._size]), pair[0].device)
            return int(fixed(magnitude_bits(pair, 0, self._size) * mask, exponent).sum())
        make = partial(_sums_below, pair, exponent, key)
        levels, sums = self._work.remember(self._places(position), ("sums by hash", key), make)
        return int(sums[np.searchsorted(levels, share)])

    def kept_by_rank(self, position: int, key: tuple[int, int], levels: np.ndarray) -> int:
        """The fixed-point sum of the magnitudes whose hash is below levels[rank]."""
        pair, exponent = self._pair(position), self.table(position).exponent
        self.masks[position] = mask = ranked_mask(pair, key, levels)
        parts = (slice(start, start + PIECE) for start in range(0, self._size, PIECE))
        kept = [fixed(magnitude_bits(pair, part.start, part.stop) * mask[part], exponent).sum() for part in parts]
        return int(torch.stack(kept).sum())

    def mask(self, position: int, numbers: SourceNumbers) -> torch.Tensor:
        """Which elements stay of a source in a sum with masks by rank, bool."""
        pair = self._pair(position)
        if numbers.levels is None:
            return keep_mask(numbers.key, numbers.share / LEVELS, torch.Size([self._size]), pair[0].device)
        return self.masks[position] if position in self.masks else ranked_mask(pair, numbers.key, numbers.levels)

    def _pair(self, position: int) -> Inputs:
        return (self.inputs[0], self.inputs[position + 1])

    def _places(self, position: int) -> tuple[int, int]:
        return (self._work.base or 0, self._sources[position])


def ranked_mask(pair: Inputs, key: tuple[int, int], levels: np.ndarray) -> torch.Tensor:
    """Where hashes are below levels[rank], bool, flat; ranks are those of magnitudes within rows."""
    size, length, device = pair[0].numel(), row_length(pair[0]), pair[0].device
    thresholds = torch.from_numpy(levels.astype(np.int32)).to(device)
    mask = torch.empty(size, dtype=torch.bool, device=device)
    step = max(1, PIECE // length) * length
    for start in range(0, size, step):
        stop = min(size, start + step)
        rows = magnitude_bits(pair, start, stop).view(torch.float32).view(-1, length)
        torch.lt(_levels(key, start, stop, device), thresholds[ranks(rows)].view(-1), out=mask[start:stop])
    return mask


def _levels(key: tuple[int, int], start: int, stop: int, device: torch.device) -> torch.Tensor:
    """The top 16 bits of the hashes of elements [start, stop), int32."""
    return (hash_bits(key, start, stop - start, device) >> 16) & 0xFFFF


def _sums_below(pair: Inputs, exponent: int, key: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Hash levels, ascending, and sums of magnitudes of lower levels than each, int64; one sum more, that of all."""
    size, device = pair[0].numel(), pair[0].device
    if size <= SMALL:
        levels, order = _levels(key, 0, size, device).cpu().sort()
        sums = fixed(magnitude_bits(pair, 0, size), exponent).cpu()[order]
    else:
        levels, sums = torch.arange(LEVELS), torch.zeros(LEVELS, dtype=torch.int64, device=device)
        for start in range(0, size, PIECE):
            stop = min(size, start + PIECE)
            values = fixed(magnitude_bits(pair, start, stop), exponent)
            sums.index_add_(0, _levels(key, start, stop, device), values)  # whole numbers: in any order
        sums = sums.cpu()
    return levels.to(torch.int32).numpy(), torch.nn.functional.pad(sums.cumsum(0), (1, 0)).numpy()

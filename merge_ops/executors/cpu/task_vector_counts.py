"""Counts of task vectors for masked sums, computed by compiled kernels; see `mask_cuts.Counts`."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import numpy as np
import torch

from ...numerics.random_masks import LEVELS
from ...numerics.reductions import INFINITE, fixed_exponent
from ..job import TensorJob
from ..mask_cuts import Cut
from ..variants import row_length
from .hash_kernels import kept_sums, largest_bits, sums_by_hash, window_sums
from .launch import addresses, chunks_of, codes, parallel, run
from .magnitudes.pending_cuts import PendingCut, resolve_all
from .magnitudes.table import MagnitudeTable, largest_once
from .rank_masks import WORD, rank_masks

STRIDE = 256  # hash levels per cumulative sum
WORTH_A_TABLE = 1 << 20  # elements from which sums by hash level are cached, in 256 to 512 KiB per source
RANKED = 1 << 16  # elements per chunk of a mask by rank, about


class TaskVectorCounts:
    """The counts of one job's task vectors."""

    def __init__(self, job: TensorJob) -> None:
        self._job, self._inputs, self._size = job, job.base_and_sources, job.out.numel()
        self._masks: dict[int, tuple[np.ndarray, int]] = {}

    def exponent(self, position: int) -> int:
        """Return `reductions.fixed_exponent` of one task vector."""
        return self._norm(position)[0]

    def total(self, position: int) -> int:
        """Return the fixed-point sum of all magnitudes."""
        return self._norm(position)[1]

    def select(self, position: int, count: int) -> Cut | PendingCut:
        """Select the `count` elements of largest magnitude; ties go to the lowest indices."""
        pair = self._pair(position)
        if not self._job.repeated:
            return largest_once(pair, count)
        table = self._job.remember(self._indices(position), "magnitudes", lambda: MagnitudeTable(pair))
        return table.select(count, pair)

    def kept(self, position: int, low: Cut | PendingCut, high: Cut | PendingCut) -> int:
        """Return the fixed-point sum of the magnitudes in `low` and not in `high`."""
        pair, chunks = self._pair(position), chunks_of([self._size])
        sums = np.empty(len(chunks), np.int64)
        cuts = [limit for cut in resolve_all((low, high)) for limit in (np.uint32(cut.bits), cut.bound)]
        run(window_sums, chunks, addresses(pair), codes(pair), 1, self._scale(position), *cuts, sums)
        return int(sums.sum())

    def _norm(self, position: int) -> tuple[int, int]:
        """Return the exponent and the fixed-point sum of one task vector, counted once."""

        def make() -> tuple[int, int]:
            pair, chunks = self._pair(position), chunks_of([self._size])
            inputs, kinds = addresses(pair), codes(pair)
            largest, sums = np.empty(len(chunks), np.uint32), np.zeros(len(chunks), np.int64)
            run(largest_bits, chunks, inputs, kinds, 1, largest)
            exponent = fixed_exponent(float(largest.max().view(np.float32)))
            if exponent != INFINITE:
                run(kept_sums, chunks, inputs, kinds, 1, np.float32(2.0**exponent), 0, 0, LEVELS, sums)
            return exponent, int(sums.sum())

        return self._job.remember(self._indices(position), "norm", make)

    def kept_by_hash(self, position: int, key: tuple[int, int], share: int) -> int:
        """Return the fixed-point sum of the magnitudes whose hash level is below `share`."""
        if self._size < WORTH_A_TABLE or not self._job.repeated:
            pair, chunks = self._pair(position), chunks_of([self._size])
            sums = np.zeros(len(chunks), np.int64)
            run(kept_sums, chunks, addresses(pair), codes(pair), 1, self._scale(position), *key, share, sums)
            return int(sums.sum())

        def make() -> SumsByHash:
            return SumsByHash(self._pair(position), self._scale(position), key)

        return self._job.remember(self._indices(position), ("sums by hash", key), make).below(share)

    def kept_by_rank(self, position: int, key: tuple[int, int], levels: np.ndarray) -> int:
        """Return the fixed-point sum of the magnitudes whose hash level is below levels[rank]."""
        return self.mask_by_rank(position, key, levels, summed=True)[1]

    def mask_by_rank(
        self, position: int, key: tuple[int, int], levels: np.ndarray, *, summed: bool = False
    ) -> tuple[np.ndarray, int]:
        """Return the mask of elements whose hash level is below levels[rank], and their fixed-point sum.

        The mask has one bit per element, in uint32 words. The sum is 0 without `summed`, and undefined if the task
        vector is not finite. Computed once per source, because it takes a sort.
        """
        if position not in self._masks:
            pair, length = self._pair(position), row_length(self._job.out)
            # Chunks begin at rows that begin with a new word, one in `rows`, so that no two chunks share a word.
            rows = WORD // gcd(length, WORD)
            chunks = chunks_of([self._size], max(1, RANKED // (rows * length)) * rows * length)
            words, sums = np.empty(-(-self._size // WORD), np.uint32), np.zeros(len(chunks), np.int64)
            scale = self._scale(position) if summed else np.float32(0)
            run(rank_masks, chunks, addresses(pair), codes(pair), 1, length, levels, scale, *key, words, sums)
            self._masks[position] = words, int(sums.sum())
        return self._masks[position]

    def _pair(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        return (self._inputs[0], self._inputs[position + 1])

    def _indices(self, position: int) -> tuple[int, int]:
        return (self._job.base or 0, self._job.sources[position])

    def _scale(self, position: int) -> np.float32:
        return np.float32(2.0 ** self.exponent(position))


class SumsByHash:
    """The fixed-point sums of a task vector's magnitudes by hash level, the top 16 bits of the hash."""

    def __init__(self, pair: Sequence[torch.Tensor], scale: np.float32, key: tuple[int, int]) -> None:
        inputs, kinds, chunks = addresses(pair), codes(pair), chunks_of([pair[0].numel()])

        def count(first: int, last: int) -> np.ndarray:
            sums = np.zeros(LEVELS, np.int64)
            sums_by_hash(chunks, first, last, inputs, kinds, 1, scale, *key, sums)
            return sums

        total = np.sum(parallel(count, chunks, pieces=1), axis=0)
        # Cumulative sums, one per STRIDE levels; `below` adds the levels after the last of them.
        self._before = np.concatenate(([0], np.cumsum(total.reshape(-1, STRIDE).sum(axis=1))))
        self._sums = total.astype(np.uint32) if total.max() < 1 << 32 else total
        self.nbytes = self._sums.nbytes + self._before.nbytes

    def below(self, share: int) -> int:
        """Return the sum over hash levels below `share`."""
        block, rest = divmod(share, STRIDE)
        return int(self._before[block]) + int(self._sums[share - rest : share].sum(dtype=np.int64))

"""The numbers of masked sums: from keep rules and statistics to cuts, thresholds and rescale factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..hashing import LEVELS, mask_key
from ..methods import Keep, KeepAll, KeepLargest, KeepRandom, KeepRanked, KeepWindow, MaskedSum, SourceRule
from ..reductions import l1_ratio
from ..selection import kept_count, rank_probabilities, window_counts
from ..work import Work
from .hashes import kept_sums, sums_by_hash
from .launch import addresses, chunks_of, codes, parallel, run
from .ranked import kept_sums_by_rank
from .selection import NONE, Cut, MagnitudeTable

WORTH_A_TABLE = 1 << 20  # elements from which sums by hash are kept, 256 KiB per source
EVERYTHING, NOTHING = Cut(0, 1 << 62, 0), Cut(NONE, 0, 0)


@dataclass(frozen=True)
class SourceNumbers:
    """What a kernel needs to know of one source: see `masked.masked_sum`."""

    low: Cut = EVERYTHING
    high: Cut = NOTHING
    key: tuple[int, int] = (0, 0)
    share: int = LEVELS
    levels: np.ndarray | None = None  # thresholds by rank, uint32
    factor: float = 1.0


def by_magnitude(plan: MaskedSum) -> bool:
    """Whether no mask is random."""
    return all(isinstance(rule.keep, (KeepAll, KeepLargest, KeepWindow)) for rule in plan.rules)


def by_rank(plan: MaskedSum) -> bool:
    """Whether a mask goes by ranks within rows."""
    return any(isinstance(rule.keep, KeepRanked) for rule in plan.rules)


def row_length(tensor: torch.Tensor) -> int:
    """How many elements are ranked together."""
    return tensor.shape[1] if tensor.dim() > 1 else tensor.numel()


def numbers_of(work: Work, plan: MaskedSum) -> list[SourceNumbers]:
    """One per source, in order."""
    inputs = work.based
    return [_numbers(work, inputs, position, rule) for position, rule in enumerate(plan.rules)]


def table_of(work: Work, position: int) -> MagnitudeTable:
    """The counts of one source's task vector, made once."""
    places = (work.base or 0, work.sources[position])
    pair = tuple(work.inputs[i] for i in places)
    return work.remember(places, "magnitudes", lambda: MagnitudeTable(pair, 1))


def _numbers(work: Work, inputs: Sequence[torch.Tensor], position: int, rule: SourceRule) -> SourceNumbers:
    pair, keep = (inputs[0], inputs[position + 1]), rule.keep
    if isinstance(keep, KeepAll):
        return SourceNumbers()
    if isinstance(keep, (KeepLargest, KeepWindow)):
        table = table_of(work, position)
        low, high = _cuts(table, keep, pair)
        factor = 1.0
        if rule.rescale and table.finite:
            factor = l1_ratio(table.total(pair), low.kept - high.kept, table.exponent)
        return SourceNumbers(low=low, high=high, factor=factor)
    key = mask_key(work.seed, work.name, position)
    if isinstance(keep, KeepRandom):
        share, levels = round(LEVELS * float(keep.probability)), None
    else:
        share, levels = LEVELS, _levels(pair[0], keep)
    factor = _random_factor(work, pair, position, key, share, levels) if rule.rescale else 1.0
    return SourceNumbers(key=key, share=share, levels=levels, factor=factor)


def _cuts(table: MagnitudeTable, keep: Keep, pair: Sequence[torch.Tensor]) -> tuple[Cut, Cut]:
    if isinstance(keep, KeepLargest):
        return table.cut(kept_count(keep.density, table.size), pair), NOTHING
    assert isinstance(keep, KeepWindow), "Should not reach."
    kept, dropped = window_counts(keep.density, keep.gamma, table.size)
    return table.cut(kept + dropped, pair), table.cut(dropped, pair)


def _levels(tensor: torch.Tensor, keep: KeepRanked) -> np.ndarray:
    return np.round(LEVELS * rank_probabilities(row_length(tensor), keep.density, keep.epsilon)).astype(np.uint32)


def _random_factor(
    work: Work,
    pair: Sequence[torch.Tensor],
    position: int,
    key: tuple[int, int],
    share: int,
    levels: np.ndarray | None,
) -> float:
    table = table_of(work, position)
    if not table.finite:
        return 1.0
    at, kinds, scale = addresses(pair), codes(pair), np.float32(2.0**table.exponent)
    size = pair[0].numel()
    if levels is not None:
        length = row_length(pair[0])
        chunks = chunks_of([size], max(1, (1 << 16) // length) * length)
        sums = np.zeros(len(chunks), np.int64)
        run(kept_sums_by_rank, chunks, at, kinds, 1, length, levels, scale, *key, sums)
        after = int(sums.sum())
    elif size < WORTH_A_TABLE:
        chunks = chunks_of([size])
        sums = np.zeros(len(chunks), np.int64)
        run(kept_sums, chunks, at, kinds, 1, scale, *key, share, sums)
        after = int(sums.sum())
    else:
        places = (work.base or 0, work.sources[position])
        sums = work.remember(places, ("sums by hash", key), lambda: _sums_by_hash(at, kinds, size, scale, key))
        after = int(sums[:share].sum(dtype=np.int64))
    return l1_ratio(table.total(pair), after, table.exponent)


def _sums_by_hash(at: np.ndarray, kinds: np.ndarray, size: int, scale: np.float32, key: tuple[int, int]) -> np.ndarray:
    chunks = chunks_of([size])

    def work(first: int, last: int) -> np.ndarray:
        sums = np.zeros(LEVELS, np.int64)
        sums_by_hash(chunks, first, last, at, kinds, 1, scale, *key, sums)
        return sums

    total = np.sum(parallel(work, chunks), axis=0)
    return total.astype(np.uint32) if total.max() < 1 << 32 else total

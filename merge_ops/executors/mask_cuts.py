"""The numbers of masked sums: from keep rules and statistics to cuts, thresholds and rescale factors.

What they are is the same on every device; how elements are counted is not: an executor brings its `Counts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from ..methods import Keep, KeepAll, KeepLargest, KeepRandom, KeepRanked, KeepWindow, MaskedSum, SourceRule
from ..numerics.random_masks import LEVELS, mask_key
from ..numerics.reductions import INFINITE, l1_ratio
from ..numerics.top_k import kept_count, rank_probabilities, window_counts
from .job import TensorJob

NONE = 0x80000000  # magnitude bits above all others


@dataclass(frozen=True)
class Cut:
    """The elements whose magnitude bits are above `bits`, or equal with an index below `bound`.

    `kept` is the fixed-point sum of their magnitudes (`reductions.fixed_sum`), where it was counted with them.
    """

    bits: int
    bound: int
    kept: int = 0


EVERYTHING, NOTHING = Cut(0, 1 << 62), Cut(NONE, 0)
Selection = Any  # a Cut, or what an executor knows one by


class Counts(Protocol):
    """Counts of the task vectors of one work, by the position of their source."""

    def exponent(self, position: int) -> int:
        """See `reductions.fixed_exponent`, of one task vector."""
        ...

    def total(self, position: int) -> int:
        """The fixed-point sum of all magnitudes."""
        ...

    def select(self, position: int, count: int) -> Selection:
        """The `count` elements of largest magnitude; among equals the lowest indices come first."""
        ...

    def kept(self, position: int, low: Selection, high: Selection) -> int:
        """The fixed-point sum of the magnitudes in `low` and not in `high`; only for finite ones."""
        ...

    def kept_by_hash(self, position: int, key: tuple[int, int], share: int) -> int:
        """The fixed-point sum of the magnitudes whose hash is below `share`; only for finite ones."""
        ...

    def kept_by_rank(self, position: int, key: tuple[int, int], levels: np.ndarray) -> int:
        """The fixed-point sum of the magnitudes whose hash is below levels[rank]; only for finite ones."""
        ...


@dataclass(frozen=True)
class SourceNumbers:
    """What a kernel needs to know of one source: what stays are elements of `low`, not of `high`, with low hashes."""

    low: Selection = EVERYTHING
    high: Selection = NOTHING
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


def numbers_of(work: TensorJob, plan: MaskedSum, counts: Counts) -> list[SourceNumbers]:
    """One per source, in order."""
    return [_numbers(work, counts, position, rule) for position, rule in enumerate(plan.rules)]


def _numbers(work: TensorJob, counts: Counts, position: int, rule: SourceRule) -> SourceNumbers:
    keep = rule.keep
    if isinstance(keep, KeepAll):
        return SourceNumbers()
    if isinstance(keep, (KeepLargest, KeepWindow)):
        low, high = _selections(counts, position, work.out.numel(), keep)
        factor = 1.0
        if rule.rescale and (exponent := counts.exponent(position)) != INFINITE:
            factor = l1_ratio(counts.total(position), counts.kept(position, low, high), exponent)
        return SourceNumbers(low=low, high=high, factor=factor)
    key = mask_key(work.seed, work.name, position)
    if isinstance(keep, KeepRandom):
        share, levels = round(LEVELS * float(keep.probability)), None
    else:
        share, levels = LEVELS, _levels(work.out, keep)
    factor = 1.0
    if rule.rescale and (exponent := counts.exponent(position)) != INFINITE:
        by_hash = levels is None
        kept = counts.kept_by_hash(position, key, share) if by_hash else counts.kept_by_rank(position, key, levels)
        factor = l1_ratio(counts.total(position), kept, exponent)
    return SourceNumbers(key=key, share=share, levels=levels, factor=factor)


def _selections(counts: Counts, position: int, size: int, keep: Keep) -> tuple[Selection, Selection]:
    if isinstance(keep, KeepLargest):
        return counts.select(position, kept_count(keep.density, size)), NOTHING
    assert isinstance(keep, KeepWindow), "Should not reach."
    kept, dropped = window_counts(keep.density, keep.gamma, size)
    low = counts.select(position, kept + dropped)
    return low, counts.select(position, dropped) if dropped else NOTHING


def _levels(tensor: torch.Tensor, keep: KeepRanked) -> np.ndarray:
    return np.round(LEVELS * rank_probabilities(row_length(tensor), keep.density, keep.epsilon)).astype(np.uint32)

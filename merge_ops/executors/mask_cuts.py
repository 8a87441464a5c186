"""Computes the cuts, hash thresholds and rescale factor of each source of a masked sum.

They follow from its keep rule and from counts of its task vector. The rules are the same on every device; how elements
are counted is not, so an executor brings its `Counts`.
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
from .variants import row_length

ABOVE_ALL = 0x80000000  # as magnitude bits: larger than those of every float32, NaN included


@dataclass(frozen=True)
class Cut:
    """Selects the elements whose magnitude bits are above `bits`, or equal with an index below `bound`.

    `kept` is the fixed-point sum of their magnitudes (`reductions.fixed_sum`) if the executor counted it with them.
    """

    bits: int
    bound: int
    kept: int = 0


KEEP_ALL, KEEP_NONE = Cut(0, 1 << 62), Cut(ABOVE_ALL, 0)
Selection = Any  # a Cut, or an executor's handle for a cut that it has not computed yet


class Counts(Protocol):
    """Counts of the task vectors of one job; `position` is the index of a source among the sources."""

    def exponent(self, position: int) -> int:
        """Return `reductions.fixed_exponent` of the task vector."""
        ...

    def total(self, position: int) -> int:
        """Return the fixed-point sum of all magnitudes."""
        ...

    def select(self, position: int, count: int) -> Selection:
        """Select the `count` elements of largest magnitude; among equals the lowest indices come first."""
        ...

    def kept(self, position: int, low: Selection, high: Selection) -> int:
        """Return the fixed-point sum of the magnitudes in `low` and not in `high`; only for finite task vectors."""
        ...

    def kept_by_hash(self, position: int, key: tuple[int, int], share: int) -> int:
        """Return the fixed-point sum of the magnitudes whose hash is below `share`; only for finite task vectors."""
        ...

    def kept_by_rank(self, position: int, key: tuple[int, int], levels: np.ndarray) -> int:
        """Return the fixed-point sum of the magnitudes with a hash below levels[rank]; only for finite task vectors."""
        ...


@dataclass(frozen=True)
class SourceMask:
    """What a masked sum keeps of one source: elements in `low`, not in `high`, with hashes below a threshold.

    The threshold is `share`, or `levels[rank]` with `levels` (row length,) uint32. `factor` is the rescale factor.
    """

    low: Selection = KEEP_ALL
    high: Selection = KEEP_NONE
    key: tuple[int, int] = (0, 0)
    share: int = LEVELS
    levels: np.ndarray | None = None
    factor: float = 1.0


def source_masks(job: TensorJob, plan: MaskedSum, counts: Counts) -> list[SourceMask]:
    """Return the mask of each source, in order."""
    return [_source_mask(job, counts, position, rule) for position, rule in enumerate(plan.rules)]


def _source_mask(job: TensorJob, counts: Counts, position: int, rule: SourceRule) -> SourceMask:
    keep = rule.keep
    if isinstance(keep, KeepAll):
        return SourceMask()
    if isinstance(keep, (KeepLargest, KeepWindow)):
        low, high = _selections(counts, position, job.out.numel(), keep)
        factor = 1.0
        if rule.rescale and (exponent := counts.exponent(position)) != INFINITE:
            factor = l1_ratio(counts.total(position), counts.kept(position, low, high), exponent)
        return SourceMask(low=low, high=high, factor=factor)
    key = mask_key(job.seed, job.name, position)
    if isinstance(keep, KeepRandom):
        share, levels = round(LEVELS * float(keep.probability)), None
    else:
        share, levels = LEVELS, _levels(job.out, keep)
    factor = 1.0
    if rule.rescale and (exponent := counts.exponent(position)) != INFINITE:
        by_hash = levels is None
        kept = counts.kept_by_hash(position, key, share) if by_hash else counts.kept_by_rank(position, key, levels)
        factor = l1_ratio(counts.total(position), kept, exponent)
    return SourceMask(key=key, share=share, levels=levels, factor=factor)


def _selections(counts: Counts, position: int, size: int, keep: Keep) -> tuple[Selection, Selection]:
    if isinstance(keep, KeepLargest):
        return counts.select(position, kept_count(keep.density, size)), KEEP_NONE
    assert isinstance(keep, KeepWindow), "Should not reach."
    kept, dropped = window_counts(keep.density, keep.gamma, size)
    # The window is what is left of the kept + dropped largest elements without the dropped largest ones.
    low = counts.select(position, kept + dropped)
    return low, counts.select(position, dropped) if dropped else KEEP_NONE


def _levels(tensor: torch.Tensor, keep: KeepRanked) -> np.ndarray:
    """Return the hash threshold of each rank, uint32."""
    return np.round(LEVELS * rank_probabilities(row_length(tensor), keep.density, keep.epsilon)).astype(np.uint32)

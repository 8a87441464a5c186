"""Pending cuts: a histogram gives the group of magnitudes, and another pass over the tensor finds the exact element.

The passes for all pending cuts of a batch run together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from ...mask_cuts import Cut
from ..launch import run
from ..load_store import CODES, DIRECT, STRIPS, likes
from .cut_kernels import cuts_among, indices_of, members

MOST_COLLECTED = 1 << 20  # elements (12 bytes each) that one pass collects for group cuts


class Inputs(NamedTuple):
    """Addresses and dtype codes, (K + 1,) int64, of a base and K sources.

    Their magnitudes are those of the task vector if K is 1, else those of the variance over the sources.
    """

    addresses: np.ndarray
    codes: np.ndarray

    @property
    def typed(self) -> tuple[Any, ...]:
        """The arguments of a kernel: the two arrays, the `Access`, and tuples of K + 1 float32 and int64."""
        direct = (self.codes == CODES[torch.bfloat16]).all()
        return (*self, DIRECT if direct else STRIPS, *likes(self.codes.shape[-1]))


@dataclass(eq=False)
class _Pending:
    """A cut that is not computed yet; `on_resolved` is called with it once it is."""

    inputs: Inputs
    on_resolved: Callable[[Cut], None]
    _cut: Cut | None = field(default=None, init=False)

    @property
    def resolved(self) -> bool:
        """Whether the cut is computed."""
        return self._cut is not None

    @property
    def cut(self) -> Cut:
        """The cut; only when it is resolved."""
        assert self._cut is not None, "Should not reach."
        return self._cut

    def resolve(self, cut: Cut) -> None:
        """Store the computed cut."""
        self._cut = cut
        self.on_resolved(cut)


@dataclass(eq=False)
class PendingIndexCut(_Pending):
    """A cut whose index is unknown: that of the nth element (from 1) with magnitude `bits` in [start, stop)."""

    bits: int
    start: int
    stop: int
    nth: int


@dataclass(eq=False)
class PendingGroupCut(_Pending):
    """The cut that keeps the `need` largest (at least one) of the elements with magnitudes in [low, high].

    Those elements are in the ranges `pieces` (P, 2) int64, (start, stop), and `counts` (P,) says how many are in each.
    """

    low: int
    high: int
    need: int
    pieces: np.ndarray
    counts: np.ndarray


PendingCut = PendingIndexCut | PendingGroupCut


def resolve_all(selections: Sequence[Cut | PendingCut]) -> list[Cut]:
    """Compute the pending cuts, which must all have equally many inputs, and return all cuts in order."""
    pending = [x for x in selections if not isinstance(x, Cut) and not x.resolved]
    _resolve_indices([x for x in pending if isinstance(x, PendingIndexCut)])
    batch, size = [], 0
    for x in pending:
        if isinstance(x, PendingGroupCut):
            batch.append(x)
            size += int(x.counts.sum())
            if size > MOST_COLLECTED:
                _resolve_groups(batch)
                batch, size = [], 0
    _resolve_groups(batch)
    return [x if isinstance(x, Cut) else x.cut for x in selections]


def _resolve_indices(pending: Sequence[PendingIndexCut]) -> None:
    if not pending:
        return
    rows = np.array([(q, x.start, x.stop) for q, x in enumerate(pending)], np.int64)
    bits, nths = np.array([x.bits for x in pending], np.uint32), np.array([x.nth for x in pending], np.int64)
    indices = np.empty(len(pending), np.int64)
    run(indices_of, rows, *_stacked(pending).typed, bits, nths, indices)
    _store(pending, bits.tolist(), (indices + 1).tolist())


def _resolve_groups(pending: Sequence[PendingGroupCut]) -> None:
    if not pending:
        return
    limits = np.array([(x.low, x.high) for x in pending], np.uint32)
    needs = np.array([x.need for x in pending], np.int64)
    owners = np.repeat(np.arange(len(pending)), [len(x.counts) for x in pending])
    rows = np.column_stack((owners, np.concatenate([x.pieces for x in pending])))
    # First pass: collect the members of all pieces one after another; the counts give the offset of each piece.
    counts = np.concatenate([x.counts for x in pending]).astype(np.int64)
    ends = np.cumsum(counts)
    bits, indices = np.empty(ends[-1], np.uint32), np.empty(ends[-1], np.int64)
    run(members, rows, *_stacked(pending).typed, limits, ends - counts, bits, indices)
    # Second pass: one row per cut, over its members.
    stops = ends[np.searchsorted(owners, np.arange(len(pending)), side="right") - 1]
    rows = np.column_stack((np.arange(len(pending)), np.concatenate(([0], stops[:-1])), stops))
    cuts, bounds = np.empty(len(pending), np.uint32), np.empty(len(pending), np.int64)
    run(cuts_among, rows, bits, indices, limits, needs, cuts, bounds)
    _store(pending, cuts.tolist(), bounds.tolist())


def _store(pending: Sequence[PendingCut], bits: Sequence[int], bounds: Sequence[int]) -> None:
    for x, *cut in zip(pending, bits, bounds, strict=True):
        x.resolve(Cut(*cut))


def _stacked(pending: Sequence[PendingCut]) -> Inputs:
    return Inputs(np.stack([x.inputs.addresses for x in pending]), np.stack([x.inputs.codes for x in pending]))

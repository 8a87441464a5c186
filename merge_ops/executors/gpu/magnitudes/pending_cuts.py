"""Pending cuts: the counts fix the group of magnitudes, the exact element needs another pass over the tensor.

The passes run on the device and write to a table there; the host does not wait for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import triton

from ....numerics.reductions import CHUNK
from ...mask_cuts import Cut
from ..launch import EXACT, STEP, aligned, codes, table
from .cut_kernels import INDEX_MASK, LARGEST, collect, find_indices
from .histograms import ROWS
from .values import Inputs, fixed, magnitude_bits

BLOCK = 2048  # elements at a time


@dataclass(frozen=True)
class PendingIndexCut:
    """A cut of which only the index is unknown: that of the nth element (from 1) with magnitude `bits` in a range.

    `kept` is as in `Cut`.
    """

    bits: int
    start: int
    stop: int
    nth: int
    kept: int


@dataclass(frozen=True)
class PendingGroupCut:
    """The cut that keeps all elements above `high` and the `need` largest of the `members` with bits in [low, high]."""

    low: int
    high: int
    members: int
    need: int
    above: int  # fixed-point sum of the elements above `high`
    inputs: Inputs
    exponent: int

    @property
    def kept(self) -> int:
        """The fixed-point sum of all elements that are kept; the host waits for it."""
        size = self.inputs[0].numel()
        parts = [magnitude_bits(self.inputs, i, min(size, i + ROWS * CHUNK)) for i in range(0, size, ROWS * CHUNK)]
        bits = torch.cat([part[(part >= self.low) & (part <= self.high)] for part in parts])
        return self.above + int(fixed(bits.sort(descending=True).values[: self.need], self.exponent).sum())


PendingCut = PendingIndexCut | PendingGroupCut


class CutRequest(NamedTuple):
    """A selection whose magnitude bits and bound are to be written to the table from its entry (t, k, p) on."""

    selection: Cut | PendingCut
    inputs: Inputs
    entry: tuple[int, int, int]


def resolve_all(requests: Sequence[CutRequest], integers: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return `integers` (T, K, P) int64 on the device, with each selection's magnitude bits and bound filled in."""
    for selection, _, (t, k, p) in requests:
        if isinstance(selection, Cut):
            integers[t, k, p : p + 2] = selection.bits, selection.bound
        elif isinstance(selection, PendingIndexCut):
            integers[t, k, p] = selection.bits
    filled = table(integers, device)
    queries: dict[tuple[int, int], list[list[int]]] = {}
    for selection, inputs, (t, k, p) in requests:
        if isinstance(selection, PendingIndexCut):
            target = filled[t, k, p + 1 :].data_ptr()
            query = [selection.start, selection.stop, selection.bits, selection.nth, target]
            rows = queries.setdefault((codes(inputs), len(inputs) - 1), [])
            rows.append([*query, *(x.data_ptr() for x in inputs)])
        elif isinstance(selection, PendingGroupCut):
            filled[t, k, p : p + 2] = _last_of(selection)
    for (kinds, count), rows in queries.items():
        find_indices[(len(rows),)](table(rows, device), CODES=kinds, COUNT=count, BLOCK=BLOCK, **EXACT)
    return filled


def _last_of(pending: PendingGroupCut) -> torch.Tensor:
    """Return the magnitude bits of the last element that is kept, and the index after it, (2,) int64 on the device."""
    inputs, size = pending.inputs, pending.inputs[0].numel()
    device = inputs[0].device
    row = [size, pending.low, pending.high, pending.members, *(x.data_ptr() for x in inputs)]
    found = torch.zeros(1, dtype=torch.int32, device=device)
    keys = torch.empty(pending.members, dtype=torch.int64, device=device)
    collect[(triton.cdiv(size, STEP),)](
        table(row, device),
        found,
        keys,
        CODES=codes(inputs),
        COUNT=len(inputs) - 1,
        ALIGNED=aligned(inputs),
        CHUNK=STEP,
        BLOCK=BLOCK,
        **EXACT,
    )
    last = keys.sort().values[pending.need - 1]
    return torch.stack([LARGEST - (last >> 32), (last & INDEX_MASK) + 1])

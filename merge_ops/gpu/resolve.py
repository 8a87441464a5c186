"""From selections to magnitudes and indices in a table on the device, without the host waiting for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import triton

from ..masks import Cut, Selection
from .launch import STEP, aligned, codes, table
from .search import collect, find_places
from .selection import Among, Pair, Tie

BLOCK = 2048


class Request(NamedTuple):
    """Where in the table, from its place (t, k, p) on, the magnitude and the bound of a selection are wanted."""

    selection: Selection
    pair: Pair
    place: tuple[int, int, int]


def resolve(requests: Sequence[Request], numbers: np.ndarray, device: torch.device) -> torch.Tensor:
    """`numbers`, int64, on the device, with each selection's magnitude and bound filled in."""
    for selection, _, place in requests:
        if isinstance(selection, Cut):
            numbers[(*place[:2], slice(place[2], place[2] + 2))] = selection.bits, selection.bound
        elif isinstance(selection, Tie):
            numbers[place] = selection.bits
    filled = table(numbers, device)
    start, (_, sources, row_length) = filled.data_ptr(), numbers.shape
    queries: dict[int, list[list[int]]] = {}
    for selection, pair, place in requests:
        if isinstance(selection, Tie):
            t, k, p = place
            target = start + 8 * ((t * sources + k) * row_length + p + 1)
            where = (pair[0].data_ptr(), pair[1].data_ptr(), selection.start, selection.stop)
            queries.setdefault(codes(pair), []).append([*where, selection.bits, selection.nth, target])
        elif isinstance(selection, Among):
            filled[(*place[:2], slice(place[2], place[2] + 2))] = _last_of(selection)
    for kinds, rows in queries.items():
        find_places[(len(rows),)](table(rows, device), CODES=kinds, BLOCK=BLOCK)
    return filled


def _last_of(selection: Among) -> torch.Tensor:
    """The magnitude bits of the last element that is selected, and the index after it, (2,) int64 on the device."""
    pair, size = selection.pair, selection.pair[0].numel()
    device = pair[0].device
    row = [*(x.data_ptr() for x in pair), size, selection.low, selection.high, selection.members]
    found = torch.zeros(1, dtype=torch.int32, device=device)
    keys = torch.empty(selection.members, dtype=torch.int64, device=device)
    collect[(triton.cdiv(size, STEP),)](
        table(row, device), found, keys, CODES=codes(pair), ALIGNED=aligned(pair), CHUNK=STEP, BLOCK=BLOCK
    )
    last = keys.sort().values[selection.need - 1]
    return torch.stack([0x7FFFFFFF - (last >> 32), (last & 0xFFFFFFFF) + 1])

"""From selections to magnitudes and indices in a table on the device, without the host waiting for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import triton

from ..mask_cuts import Cut, Selection
from .cut_kernels import collect, find_places
from .launch import EXACT, STEP, aligned, codes, table
from .magnitude_table import Among, Inputs, Tie

BLOCK = 2048


class Request(NamedTuple):
    """Where in the table, from its place (t, k, p) on, the magnitude and the bound of a selection are wanted."""

    selection: Selection
    inputs: Inputs
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
    queries: dict[tuple[int, int], list[list[int]]] = {}
    for selection, inputs, place in requests:
        if isinstance(selection, Tie):
            t, k, p = place
            target = start + 8 * ((t * sources + k) * row_length + p + 1)
            query = [selection.start, selection.stop, selection.bits, selection.nth, target]
            rows = queries.setdefault((codes(inputs), len(inputs) - 1), [])
            rows.append([*query, *(x.data_ptr() for x in inputs)])
        elif isinstance(selection, Among):
            filled[(*place[:2], slice(place[2], place[2] + 2))] = _last_of(selection)
    for (kinds, count), rows in queries.items():
        find_places[(len(rows),)](table(rows, device), CODES=kinds, COUNT=count, BLOCK=BLOCK, **EXACT)
    return filled


def _last_of(selection: Among) -> torch.Tensor:
    """The magnitude bits of the last element that is selected, and the index after it, (2,) int64 on the device."""
    inputs, size = selection.inputs, selection.inputs[0].numel()
    device = inputs[0].device
    row = [size, selection.low, selection.high, selection.members, *(x.data_ptr() for x in inputs)]
    found = torch.zeros(1, dtype=torch.int32, device=device)
    keys = torch.empty(selection.members, dtype=torch.int64, device=device)
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
    last = keys.sort().values[selection.need - 1]
    return torch.stack([0x7FFFFFFF - (last >> 32), (last & 0xFFFFFFFF) + 1])

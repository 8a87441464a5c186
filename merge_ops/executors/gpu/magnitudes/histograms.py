"""Counts of magnitudes by torch operations: chunks are sorted, bins and groups are ranges of the sorted rows.

Bins are those of the CPU executor: one for each magnitude that ends in 15 zero bits, one for those up to the next.
Differences of bfloat16 values mostly end in zeros, so most bins hold one value.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ....numerics.reductions import CHUNK
from .values import Inputs, magnitude_bits

ROWS = 64  # chunks that are sorted at a time
BINS = 1 << 17
LEAST_GROUP, MOST_GROUPS = 256, 4096  # a group has about that many elements, or that fraction of all if it is more


def sorted_chunks(inputs: Inputs) -> Iterator[torch.Tensor]:
    """Yield magnitude bits, ascending within each chunk, (chunks, length) int32; a shorter last chunk comes alone."""
    size = inputs[0].numel()
    whole = size // CHUNK * CHUNK
    for start in range(0, whole, ROWS * CHUNK):
        yield magnitude_bits(inputs, start, min(whole, start + ROWS * CHUNK)).view(-1, CHUNK).sort(dim=1).values
    if whole < size:
        yield magnitude_bits(inputs, whole, size).sort().values[None]


def positions(rows: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Return where intervals that begin at `starts` begin in every sorted row, and the row's length, int64."""
    found = torch.searchsorted(rows, starts.expand(len(rows), -1).contiguous())
    return torch.nn.functional.pad(found, (0, 1), value=rows.shape[1])


def bin_starts() -> torch.Tensor:
    """Return the lowest magnitude bits of each bin, (BINS,) int32."""
    upper = torch.arange(BINS // 2, dtype=torch.int32) << 15
    return torch.stack([upper, upper + 1], dim=1).reshape(-1)


def histogram(inputs: Inputs) -> np.ndarray:
    """Return the number of elements in each bin, (BINS,) int64."""
    device = inputs[0].device
    starts, counts = bin_starts().to(device), torch.zeros(BINS, dtype=torch.int64, device=device)
    for rows in sorted_chunks(inputs):
        counts += positions(rows, starts).diff(dim=1).sum(0)
    return counts.cpu().numpy()


def group_starts(counts: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """Return the lowest magnitude bits of each group of neighbouring bins, int32, and of the last bin with elements.

    A bin of a single value with at least as many elements as a group should have is not joined with others.
    """
    target = max(LEAST_GROUP, size // MOST_GROUPS)
    filled = np.flatnonzero(counts)
    alone = (filled % 2 == 0) & (counts[filled] >= target)
    portion = (np.cumsum(counts[filled]) - counts[filled]) // target
    begins = alone.copy()
    begins[0] = True
    begins[1:] |= alone[:-1] | (portion[1:] != portion[:-1])
    starts = bin_starts().numpy()
    return starts[filled[begins]], int(starts[filled[-1]])

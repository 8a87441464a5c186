"""Masks by rank within rows, one byte per element, by torch operations."""

from __future__ import annotations

import numpy as np
import torch

from ...numerics.random_masks import hash_bits
from ...numerics.top_k import ranks
from ..variants import row_length
from .magnitudes.values import Inputs, magnitude_bits

PIECE = 1 << 24  # elements at a time; divides 2**32


def rank_mask(pair: Inputs, key: tuple[int, int], levels: np.ndarray) -> torch.Tensor:
    """Return which elements' hashes are below levels[rank], flat, bool; ranks are those of magnitudes within rows."""
    size, length, device = pair[0].numel(), row_length(pair[0]), pair[0].device
    thresholds = torch.from_numpy(levels.astype(np.int32)).to(device)
    mask = torch.empty(size, dtype=torch.bool, device=device)
    step = max(1, PIECE // length) * length
    for start in range(0, size, step):
        stop = min(size, start + step)
        rows = magnitude_bits(pair, start, stop).view(torch.float32).view(-1, length)
        torch.lt(hash_levels(key, start, stop, device), thresholds[ranks(rows)].view(-1), out=mask[start:stop])
    return mask


def hash_levels(key: tuple[int, int], start: int, stop: int, device: torch.device) -> torch.Tensor:
    """Return the top 16 bits of the hashes of the elements [start, stop), int32."""
    return (hash_bits(key, start, stop - start, device) >> 16) & 0xFFFF

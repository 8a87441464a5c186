"""Top-k selection by magnitude, with exact counts and a fixed order among equal magnitudes."""

from __future__ import annotations

import numpy as np

from .lazy_torch import torch


def largest(values: torch.Tensor, count: int) -> torch.Tensor:
    """Return a boolean mask of the `count` elements of largest magnitude; ties go to the lowest indices."""
    magnitude = values.abs().reshape(-1)
    size = magnitude.numel()
    if count <= 0 or size == 0:
        return torch.zeros(values.shape, dtype=torch.bool, device=values.device)
    if count >= size:
        return torch.ones(values.shape, dtype=torch.bool, device=values.device)
    threshold = magnitude.kthvalue(size - count + 1).values
    mask = magnitude > threshold
    equal = magnitude == threshold
    mask |= equal & (equal.cumsum(0) <= count - mask.sum())
    return mask.reshape(values.shape)


def ranks(values: torch.Tensor) -> torch.Tensor:
    """Return ranks 0..C-1 by ascending magnitude along dimension 1 (a vector is one row); ties by index."""
    rows = values.abs()
    rows = rows.reshape(1, -1) if rows.dim() < 2 else rows
    order = rows.argsort(dim=1, stable=True)
    # The inverse permutation of each row.
    place = torch.arange(rows.shape[1], device=rows.device).reshape(1, -1, *[1] * (rows.dim() - 2))
    return torch.empty_like(order).scatter_(1, order, place.expand_as(order).contiguous()).reshape(values.shape)


def kept_count(density: float, size: int) -> int:
    """Return how many of `size` elements `KeepLargest` keeps."""
    return max(1, int(density * size)) if density > 0.0 else 0


def window_counts(density: float, gamma: float, size: int) -> tuple[int, int]:
    """Return how many of `size` elements `KeepWindow` keeps, and how many larger ones it drops."""
    kept = min(size, int(density * size))
    return kept, min(int(gamma * size), size - kept)


def rank_probabilities(length: int, density: float, epsilon: float) -> np.ndarray:
    """Return the keep probabilities of `KeepRanked` by rank in a row, float64 of shape (length,)."""
    if length == 1:
        return np.array([density])
    return density - epsilon + 2.0 * epsilon * np.arange(length) / (length - 1)

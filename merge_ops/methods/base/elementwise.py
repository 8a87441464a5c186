"""Shared parts of the methods that merge element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def task_vectors(inputs: Sequence[torch.Tensor], base: int) -> list[torch.Tensor]:
    """Return the differences of the other inputs from the base, in order."""
    return [x - inputs[base] for i, x in enumerate(inputs) if i != base]


def sum_in_order(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum, added one after another."""
    total = tensors[0].clone()
    for tensor in tensors[1:]:
        total.add_(tensor)
    return total

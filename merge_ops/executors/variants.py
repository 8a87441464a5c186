"""Variants of the masked-sum kernel, named once for all executors.

Executors compile one version of a kernel per member, so that no loop over elements branches on it.
"""

from __future__ import annotations

from enum import IntEnum

import torch

from ..methods import KeepAll, KeepLargest, KeepRanked, KeepWindow, MaskedSum


class Variant(IntEnum):
    """Base class of constants that kernels are specialized for at compile time."""


class MaskKind(Variant):
    """What decides whether a masked sum keeps an element."""

    LARGEST = 0  # magnitude, above one cut
    WINDOW = 1  # magnitude, between two cuts
    HASH = 2  # hash of the element's index, below one threshold per source
    RANK = 3  # hash of the element's index, below a threshold that depends on its rank in its row


class Vote(Variant):
    """How a masked sum combines the elements that its sources keep; see `MaskedSum`."""

    SUM = 0
    AVERAGE = 1
    ELECT = 2
    ELECT_AND_DIVIDE = 3


def mask_kind(plan: MaskedSum) -> MaskKind:
    """Return the kind of mask that can express all keep rules of a plan."""
    keeps = [rule.keep for rule in plan.rules]
    if any(isinstance(keep, KeepRanked) for keep in keeps):
        return MaskKind.RANK
    if not all(isinstance(keep, (KeepAll, KeepLargest, KeepWindow)) for keep in keeps):
        return MaskKind.HASH
    return MaskKind.WINDOW if any(isinstance(keep, KeepWindow) for keep in keeps) else MaskKind.LARGEST


def vote(plan: MaskedSum) -> Vote:
    """Return how a plan combines its sources."""
    if plan.consensus:
        return Vote.ELECT_AND_DIVIDE if plan.normalize else Vote.ELECT
    return Vote.AVERAGE if plan.average else Vote.SUM


def row_length(tensor: torch.Tensor) -> int:
    """Return how many elements are ranked together: a row along dimension 1, or a whole vector."""
    return tensor.shape[1] if tensor.dim() > 1 else tensor.numel()

"""Plans: what a merge method asks an executor to compute for one tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

NO_DIVISOR = 1e-8  # a sum of weights below this is not divided by


@dataclass(frozen=True)
class LinearCombination:
    """out = sum_i coefficients[i] * x_i over all inputs, base included; zero coefficients are left out."""

    coefficients: tuple[float, ...]


@dataclass(frozen=True)
class RowCombination:
    """out = sum_i coefficients[i] * x_i with arrays that broadcast against the tensors, one per input."""

    coefficients: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class AddDelta:
    """out = base + scale * delta, for a delta that depends on no parameter value; see `Statistics.merged_delta`."""

    delta: torch.Tensor
    scale: float


@dataclass(frozen=True)
class KeepAll:
    """Every element of a task vector stays."""


@dataclass(frozen=True)
class KeepLargest:
    """The max(1, int(density * n)) elements of largest magnitude stay (none at density 0); ties go to low indices."""

    density: float


@dataclass(frozen=True)
class KeepWindow:
    """By descending magnitude, int(gamma * n) elements go, the next int(density * n) stay, the rest goes.

    If the shares exceed the tensor together, fewer of the largest go. Ties go to low indices.
    """

    density: float
    gamma: float


@dataclass(frozen=True)
class KeepRanked:
    """An element stays with a probability by the rank r of its magnitude among the C of its row.

    Probability density - epsilon + 2 epsilon (r - 1) / (C - 1), drawn by the hash of `random_masks.py`. Rows
    run along dimension 1; a vector is one row; in a row of one element the probability is the density.
    """

    density: float
    epsilon: float


@dataclass(frozen=True)
class KeepRandom:
    """Each element stays with this probability, by the counter-based hash of `random_masks.py`."""

    probability: float


Keep = KeepAll | KeepLargest | KeepWindow | KeepRandom | KeepRanked


@dataclass(frozen=True)
class SourceRule:
    """The treatment of one task vector before the sum: keep rule, L1-norm rescale, weight; in this order."""

    weight: float
    keep: Keep = KeepAll()
    rescale: bool = False


@dataclass(frozen=True)
class MaskedSum:
    """out = base + scale * sum_i weight_i * masked task vector_i, with optional sign consensus and normalization.

    One rule per non-base input, in order. With `consensus` only elements whose sign agrees with the sign of the
    weighted sum count (a sum of 0 elects +); with `normalize` the sum is divided by the sum of the weights that count,
    with `average` (and neither of the others) by the number of sources that keep the element, if it is more than one.
    """

    rules: tuple[SourceRule, ...]
    consensus: bool = False
    normalize: bool = False
    average: bool = False
    scale: float = 1.0

    @property
    def factor(self) -> float:
        """The factor of the sum: the scale, divided by the sum of weights if it is normalized without consensus."""
        total = sum(rule.weight for rule in self.rules)
        # One multiplication, because devices differ in how they divide a tensor by a scalar.
        return self.scale / total if self.normalize and not self.consensus and abs(total) >= NO_DIVISOR else self.scale


@dataclass(frozen=True)
class Custom:
    """out = function(inputs, base index), for methods that fit neither form; inputs are in the working dtype.

    Executors that have a kernel of this name run it, with these values, instead of the function.
    """

    function: Callable[[tuple[torch.Tensor, ...], int | None], torch.Tensor]
    kernel: str | None = None
    values: tuple[float, ...] = ()


Plan = LinearCombination | RowCombination | MaskedSum | AddDelta | Custom

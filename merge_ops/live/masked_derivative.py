"""Inner products of a gradient with inputs and with masked task vectors, a piece of the tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ..executors.job import TensorJob
from ..executors.reference import kept_elements, rescale_factor, working_dtype
from ..methods import KeepAll, MaskedSum, SourceRule
from ..numerics.random_masks import mask_key

PIECE = 1 << 22  # elements that are worked on at a time; a multiple of 8


@dataclass(frozen=True)
class KeptElements:
    """The elements of a task vector that one source keeps: a bit per element (None: all), and their rescale factor."""

    bits: torch.Tensor | None
    factor: float

    @classmethod
    def of(cls, delta: torch.Tensor, rule: SourceRule, key: tuple[int, int]) -> KeptElements:
        """Apply a rule to a task vector; `key` seeds random masks."""
        if isinstance(rule.keep, KeepAll):
            return cls(None, 1.0)
        mask = kept_elements(delta, rule.keep, key)
        return cls(_packed(mask), rescale_factor(delta, mask, rule))

    def mask(self, start: int, stop: int) -> torch.Tensor | None:
        """Return the mask of the elements [start, stop) of the flattened tensor, 1-d bool; None keeps all."""
        if self.bits is None:
            return None
        bits = self.bits[start // 8 : -(-stop // 8), None] & _powers(self.bits.device)
        return (bits != 0).view(-1)[start % 8 : start % 8 + stop - start]


def kept_of_sources(plan: MaskedSum, based: Sequence[torch.Tensor], job: TensorJob) -> tuple[KeptElements, ...]:
    """Return the elements that each source of a masked sum keeps; `based` are the base and the sources."""
    dtype = working_dtype(based)
    base = based[0].to(dtype)
    return tuple(
        KeptElements.of((x.to(dtype) - base).contiguous(), rule, mask_key(job.seed, job.name, position))
        for position, (x, rule) in enumerate(zip(based[1:], plan.rules, strict=True))
    )


def piece_products(gradient: torch.Tensor, first: int, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return <gradient, x> in float64 for each tensor x; the gradient is that of elements from `first` on."""
    totals = torch.zeros(len(tensors), dtype=torch.float64, device=gradient.device)
    for slope, parts in _pieces(gradient, first, tensors):
        totals += torch.stack([torch.dot(slope, part.double()) for part in parts])
    return totals


def masked_products(
    gradient: torch.Tensor,
    first: int,
    plan: MaskedSum,
    based: Sequence[torch.Tensor],
    kept: Sequence[KeptElements],
) -> torch.Tensor:
    """Return <gradient, d theta / d w_k> in float64 for each source k of a masked sum, masks and signs held constant.

    A divisor common to all elements (normalization without consensus) is held constant too. The derivative of a weight
    of 0 is the one-sided derivative towards larger weights.

    Args:
        gradient: dL/dtheta of consecutive elements.
        first: the index of its first element in the flattened tensor.
        plan: the masked sum.
        based: the base, then the sources.
        kept: the elements that each source keeps.
    """
    dtype = working_dtype(based)
    totals = torch.zeros(len(plan.rules), dtype=torch.float64, device=gradient.device)
    if not plan.rules:
        return totals
    start = first
    for slope, (base, *sources) in _pieces(gradient, first, based):
        masks = [elements.mask(start, start + len(slope)) for elements in kept]
        units = []
        for source, mask, elements in zip(sources, masks, kept, strict=True):
            unit = (source.to(dtype) - base.to(dtype)) * elements.factor
            units.append(unit if mask is None else torch.where(mask, unit, 0.0))
        directions = _by_consensus(plan, units) if plan.consensus else units
        totals += torch.stack([torch.dot(slope, direction.double()) for direction in directions])
        start += len(slope)
    return totals * plan.factor


def _by_consensus(plan: MaskedSum, units: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the derivatives of the elected sum, before the scale, from the unweighted task vectors."""
    weights = [rule.weight for rule in plan.rules]
    deltas = [unit * weight for unit, weight in zip(units, weights, strict=True)]
    total = sum(deltas[1:], deltas[0])
    sign = torch.where(total >= 0, 1.0, -1.0).to(total.dtype)
    # If no other source has a nonzero value at an element, a source of weight 0 elects the sign as its weight grows.
    agree = [
        (unit * sign > 0) | ((total == 0) & (unit != 0)) if weight == 0.0 else delta * sign > 0
        for unit, delta, weight in zip(units, deltas, weights, strict=True)
    ]
    if not plan.normalize:
        return [torch.where(counted, unit, 0.0) for counted, unit in zip(agree, units, strict=True)]
    elected, divisor = torch.zeros_like(total), torch.zeros_like(total)
    for counted, delta, weight in zip(agree, deltas, weights, strict=True):
        elected += torch.where(counted, delta, 0.0)
        divisor += counted.to(divisor.dtype) * weight
    # If no weight counts at an element, the merged tensor jumps as soon as one does: there is no derivative.
    defined = divisor != 0
    divisor = torch.where(defined, divisor, 1.0)
    mean = elected / divisor
    return [
        torch.where(counted & defined, (unit - mean) / divisor, 0.0) for counted, unit in zip(agree, units, strict=True)
    ]


def _pieces(
    gradient: torch.Tensor, first: int, tensors: Sequence[torch.Tensor]
) -> Iterator[tuple[torch.Tensor, list[torch.Tensor]]]:
    """Yield the gradient in float64 and the same elements of each tensor, all 1-d."""
    flat = gradient.reshape(-1)
    others = [tensor.reshape(-1) for tensor in tensors]
    for start in range(0, len(flat), PIECE):
        slope = flat[start : start + PIECE].double()
        yield slope, [other[first + start : first + start + len(slope)] for other in others]


def _packed(mask: torch.Tensor) -> torch.Tensor:
    """Return a mask as bits, eight elements to a byte."""
    flat = torch.nn.functional.pad(mask.reshape(-1).to(torch.uint8), (0, -mask.numel() % 8))
    return (flat.view(-1, 8) * _powers(mask.device)).sum(1, dtype=torch.uint8)


def _powers(device: torch.device) -> torch.Tensor:
    return torch.tensor([1 << i for i in range(8)], dtype=torch.uint8, device=device)

"""Runs plans on whole tensors with plain torch operations: the reference that every other executor must equal.

Arithmetic is float32 (float64 if an input is), and each multiplication and each addition is rounded: no fused
multiply-add, so that the bits are the same on every device and for every thread count.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..methods import (
    AddDelta,
    Custom,
    Keep,
    KeepAll,
    KeepLargest,
    KeepRandom,
    KeepRanked,
    KeepWindow,
    LinearCombination,
    MaskedSum,
    Plan,
    RowCombination,
    SourceRule,
)
from ..numerics.random_masks import keep_mask, mask_key
from ..numerics.reductions import INFINITE, fixed_exponent, fixed_sum, l1_ratio
from ..numerics.top_k import kept_count, largest, rank_probabilities, ranks, window_counts


def working_dtype(inputs: Sequence[torch.Tensor]) -> torch.dtype:
    """Return float64 when an input is float64, else float32."""
    return torch.float64 if any(x.dtype == torch.float64 for x in inputs) else torch.float32


def execute(plan: Plan, inputs: Sequence[torch.Tensor], *, base: int | None, seed: int, name: str) -> torch.Tensor:
    """Return the merged tensor in the working dtype; `inputs` are floating tensors of one shape and any dtypes.

    `base` is the index of the base among the inputs; `seed` and `name` (the output tensor's checkpoint name)
    determine random masks.
    """
    dtype = working_dtype(inputs)
    if isinstance(plan, LinearCombination):
        return _linear_combination(plan, inputs, dtype)
    if isinstance(plan, RowCombination):
        return _row_combination(plan, inputs, dtype)
    if isinstance(plan, AddDelta):
        if base is None:
            raise ValueError("a task vector needs a base")
        return (plan.delta.to(dtype) * plan.scale).add_(inputs[base].to(dtype))
    whole = tuple(x.to(dtype).contiguous() for x in inputs)
    if isinstance(plan, MaskedSum):
        if base is None:
            raise ValueError("a masked sum needs a base")
        return _masked_sum(plan, whole, base, seed, name)
    assert isinstance(plan, Custom), "Should not reach."
    return plan.function(whole, base)


def _linear_combination(plan: LinearCombination, inputs: Sequence[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    terms = [(c, x) for c, x in zip(plan.coefficients, inputs, strict=True) if c != 0.0]
    if not terms:
        return torch.zeros_like(inputs[0], dtype=dtype)
    total: torch.Tensor | None = None
    for coefficient, x in terms:
        term = x.to(dtype, copy=True) if coefficient == 1.0 else x.to(dtype) * coefficient
        total = term if total is None else total.add_(term)
    assert total is not None, "Should not reach."
    return total


def _row_combination(plan: RowCombination, inputs: Sequence[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    terms = [
        x.to(dtype) * torch.tensor(c, dtype=torch.float64).to(x.device, dtype)
        for c, x in zip(plan.coefficients, inputs, strict=True)
    ]
    return _ordered_sum(terms)


def _masked_sum(plan: MaskedSum, inputs: tuple[torch.Tensor, ...], base: int, seed: int, name: str) -> torch.Tensor:
    others = [x for i, x in enumerate(inputs) if i != base]
    if not others:
        return inputs[base].clone()
    whole = [x - inputs[base] for x in others]
    kept = [
        kept_elements(delta, rule.keep, mask_key(seed, name, position))
        for position, (delta, rule) in enumerate(zip(whole, plan.rules, strict=True))
    ]
    deltas = [_weighted(*parts) for parts in zip(whole, kept, plan.rules, strict=True)]
    weights = [rule.weight for rule in plan.rules]
    total = _ordered_sum(deltas)
    if plan.consensus:
        # NaN propagates through the sign.
        sign = torch.where(total >= 0, 1.0, torch.where(total < 0, -1.0, torch.nan)).to(total.dtype)
        # Multiplied by the elected sign, elements that disagree are negative.
        turned = [delta * sign for delta in deltas]
        total = _ordered_sum([torch.where(delta > 0, delta, 0.0) for delta in turned])
        if plan.normalize:
            divisor = _ordered_sum([(d > 0).to(d.dtype) * w for d, w in zip(turned, weights, strict=True)])
            divisor[divisor == 0] = 1.0
            total = total / divisor
        total = total * sign
    elif plan.average:
        total = total / _ordered_sum([mask.to(total.dtype) for mask in kept]).clamp_(min=1.0)
    if plan.factor != 1.0:
        total = total * plan.factor
    return total.add_(inputs[base])


def _ordered_sum(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    total = tensors[0].clone()
    for tensor in tensors[1:]:
        total.add_(tensor)
    return total


def _weighted(delta: torch.Tensor, mask: torch.Tensor, rule: SourceRule) -> torch.Tensor:
    """Return the masked, rescaled and weighted task vector of one source."""
    if isinstance(rule.keep, KeepAll):
        return delta * rule.weight
    return torch.where(mask, delta * (rescale_factor(delta, mask, rule) * rule.weight), 0.0)


def rescale_factor(delta: torch.Tensor, mask: torch.Tensor, rule: SourceRule) -> float:
    """Return the factor that gives the kept elements the L1 norm of the whole task vector; 1 without `rescale`."""
    exponent = fixed_exponent(float(delta.abs().max()) if delta.numel() else 0.0) if rule.rescale else INFINITE
    if exponent == INFINITE:
        return 1.0
    kept = fixed_sum(torch.where(mask, delta, 0.0), exponent)
    return l1_ratio(fixed_sum(delta, exponent), kept, exponent)


def kept_elements(delta: torch.Tensor, keep: Keep, key: tuple[int, int]) -> torch.Tensor:
    """Return the boolean mask of the elements of a task vector that a keep rule keeps; `key` seeds random masks."""
    if isinstance(keep, KeepAll):
        return torch.ones(delta.shape, dtype=torch.bool, device=delta.device)
    if isinstance(keep, KeepLargest):
        return largest_mask(delta, keep.density)
    if isinstance(keep, KeepWindow):
        return window_mask(delta, keep.density, keep.gamma)
    if isinstance(keep, KeepRanked):
        return keep_mask(key, ranked_probability(delta, keep.density, keep.epsilon), delta.shape, delta.device)
    assert isinstance(keep, KeepRandom), "Should not reach."
    return keep_mask(key, float(keep.probability), delta.shape, delta.device)


def ranked_probability(delta: torch.Tensor, density: float, epsilon: float) -> torch.Tensor:
    """Return the probability with which each element stays, float64; see `KeepRanked`."""
    length = delta.shape[1] if delta.dim() > 1 else delta.numel()
    # A table with one value per rank, computed on the CPU: the same bits on every device.
    table = torch.from_numpy(rank_probabilities(length, density, epsilon))
    return table.to(delta.device)[ranks(delta)]


def window_mask(delta: torch.Tensor, density: float, gamma: float) -> torch.Tensor:
    """Return a boolean mask of the elements that a `KeepWindow` keeps."""
    count, dropped = window_counts(density, gamma, delta.numel())
    mask = largest(delta, dropped + count)
    return mask & ~largest(delta, dropped) if dropped else mask


def largest_mask(delta: torch.Tensor, density: float) -> torch.Tensor:
    """Return a mask of the max(1, int(density * n)) elements of largest magnitude; among equals the lowest indices."""
    return largest(delta, kept_count(density, delta.numel()))

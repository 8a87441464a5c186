"""Runs plans on whole tensors with plain torch operations: the reference that every other executor must equal.

Arithmetic is float32 (float64 where an input is), each multiplication and each addition rounded on its own: no fused
multiply-add, so that the bits are the same on every device and for every thread count.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .hashing import keep_mask, mask_key
from .methods import (
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
from .methods.method import NO_DIVISOR
from .reductions import l1_norm
from .selection import largest, ranks

NO_NORM = 1e-7  # an L1 norm below this is not rescaled to or from


def working_dtype(inputs: Sequence[torch.Tensor]) -> torch.dtype:
    """float64 when an input is float64, else float32."""
    return torch.float64 if any(x.dtype == torch.float64 for x in inputs) else torch.float32


def execute(plan: Plan, inputs: Sequence[torch.Tensor], *, base: int | None, seed: int, name: str) -> torch.Tensor:
    """The merged tensor in the working dtype; `inputs` are equally shaped floating tensors of any dtypes.

    `base` is the base's place among the inputs; `seed` and `name` (the output tensor's checkpoint name) choose random
    masks.
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
    deltas = [
        _weighted(x - inputs[base], rule, mask_key(seed, name, position))
        for position, (x, rule) in enumerate(zip(others, plan.rules, strict=True))
    ]
    if not deltas:
        return inputs[base].clone()
    weights = [rule.weight for rule in plan.rules]
    total = _ordered_sum(deltas)
    factor = plan.scale
    if plan.consensus:
        positive = total >= 0
        agrees = [torch.where(positive, delta > 0, delta < 0) for delta in deltas]
        total = _ordered_sum([delta * mask for delta, mask in zip(deltas, agrees, strict=True)])
        if plan.normalize:
            divisor = _ordered_sum([mask.to(total.dtype) * w for mask, w in zip(agrees, weights, strict=True)])
            divisor[divisor == 0] = 1.0
            total = total / divisor
    elif plan.normalize and abs(sum(weights)) >= NO_DIVISOR:
        # One multiplication: devices differ in how they divide a tensor by a number.
        factor = factor / sum(weights)
    if factor != 1.0:
        total = total * factor
    return total.add_(inputs[base])


def _ordered_sum(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    total = tensors[0].clone()
    for tensor in tensors[1:]:
        total.add_(tensor)
    return total


def _weighted(delta: torch.Tensor, rule: SourceRule, key: tuple[int, int]) -> torch.Tensor:
    """The masked, rescaled and weighted task vector of one source."""
    if isinstance(rule.keep, KeepAll):
        return delta * rule.weight
    kept = delta * _mask(delta, rule.keep, key)
    if rule.rescale:
        before, after = l1_norm(delta), l1_norm(kept)
        if before >= NO_NORM and after >= NO_NORM:
            kept = kept * (before / after)
    return kept * rule.weight


def _mask(delta: torch.Tensor, keep: Keep, key: tuple[int, int]) -> torch.Tensor:
    if isinstance(keep, KeepLargest):
        return largest_mask(delta, keep.density)
    if isinstance(keep, KeepWindow):
        return window_mask(delta, keep.density, keep.gamma)
    if isinstance(keep, KeepRanked):
        return keep_mask(key, ranked_probability(delta, keep.density, keep.epsilon), delta.shape, delta.device)
    assert isinstance(keep, KeepRandom), "Should not reach."
    return keep_mask(key, float(keep.probability), delta.shape, delta.device)


def ranked_probability(delta: torch.Tensor, density: float, epsilon: float) -> torch.Tensor:
    """The probability with which each element stays, float64; see `KeepRanked`."""
    length = delta.shape[1] if delta.dim() > 1 else delta.numel()
    if length == 1:
        return torch.full(delta.shape, density, dtype=torch.float64, device=delta.device)
    # One number per rank, from a table: no device computes it differently.
    table = torch.tensor(
        [density - epsilon + 2.0 * epsilon * r / (length - 1) for r in range(length)], dtype=torch.float64
    )
    return table.to(delta.device)[ranks(delta)]


def window_mask(delta: torch.Tensor, density: float, gamma: float) -> torch.Tensor:
    """Boolean mask of the elements that a `KeepWindow` keeps."""
    size = delta.numel()
    count = min(size, int(density * size))
    dropped = min(int(gamma * size), size - count)
    mask = largest(delta, dropped + count)
    return mask & ~largest(delta, dropped) if dropped else mask


def largest_mask(delta: torch.Tensor, density: float) -> torch.Tensor:
    """Boolean mask of the max(1, int(density * n)) elements of largest magnitude; among equals the lowest indices."""
    size = delta.numel()
    return largest(delta, max(1, int(density * size)) if density > 0.0 else 0)

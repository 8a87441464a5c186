"""RAM: task vectors summed where one model moved, averaged where several did."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..numerics.lazy_torch import torch
from .base.declaration import Base, MergeMethod, Parameter, ParameterValues, Range, Scope, Statistics
from .base.depth_scaling import LINES, depth_factor
from .base.elementwise import sum_in_order, task_vectors
from .base.plans import Custom, LinearCombination


def plan_ram(values: ParameterValues, _stats: Statistics) -> Custom | LinearCombination:
    """Out = base + sum_i T_i z_i / max(1, c), z_i = [|T_i| > epsilon], c = sum_i z_i."""
    epsilon = float(values.tensor["epsilon"])
    return _custom(values, epsilon, 0.0, 0.0)


def plan_ramplus(values: ParameterValues, _stats: Statistics) -> Custom | LinearCombination:
    """As RAM, with elements that one model alone moved scaled by 1 + r clamp(shared_i / unique_i, 0, alpha).

    shared_i and unique_i count the elements that model i moved together with others and alone, per tensor (the paper
    counts over the whole model).
    """
    epsilon, r, alpha = (float(values.tensor[name]) for name in ("epsilon", "r", "alpha"))
    return _custom(values, epsilon, r, alpha)


def _custom(values: ParameterValues, epsilon: float, r: float, alpha: float) -> Custom | LinearCombination:
    if not values.others:
        return LinearCombination((1.0,))
    factor = depth_factor(values)
    merge = partial(_merge, epsilon=epsilon, r=r, alpha=alpha, factor=factor)
    return Custom(merge, "ram", (epsilon, r, alpha, factor))


def unique_scales(counts: Sequence[Sequence[int]], epsilon: float, r: float, alpha: float) -> tuple[float, ...]:
    """Return each model's scale of the elements that it alone moved, from its (unique, shared) counts."""
    return tuple(
        1.0 + r * min(max(shared / max(unique, epsilon), 0.0), alpha) if r else 1.0 for unique, shared in counts
    )


def _merge(
    inputs: tuple[torch.Tensor, ...], base: int | None, *, epsilon: float, r: float, alpha: float, factor: float
) -> torch.Tensor:
    assert base is not None, "Should not reach."
    deltas = task_vectors(inputs, base)
    moved = [delta.abs() > epsilon for delta in deltas]
    count = sum_in_order([mask.to(torch.int32) for mask in moved])
    share = 1.0 / count.clamp(min=1).to(deltas[0].dtype)
    counts = [[int((mask & (count == 1)).sum()), int((mask & (count > 1)).sum())] for mask in moved]
    scales = unique_scales(counts, epsilon, r, alpha)
    terms = [
        delta * mask * torch.where(count == 1, scale, share)
        for delta, mask, scale in zip(deltas, moved, scales, strict=True)
    ]
    return sum_in_order(terms).mul_(factor).add_(inputs[base])


EPSILON = Parameter("epsilon", Scope.TENSOR, default=1e-5, low=0.0, doc="a smaller change is none")
METHODS = (
    MergeMethod(
        name="ram",
        summary="Elements that one model changed are taken over; those that several changed are averaged.",
        paper="Yuan et al. 2026, Behavior Knowledge Merge in Reinforced Agentic Models, arXiv:2601.13572",
        base=Base.REQUIRED,
        parameters=(EPSILON, LINES),
        plan=plan_ram,
    ),
    MergeMethod(
        name="ramplus_tl",
        summary="RAM, with elements that only one model changed scaled up.",
        paper="Yuan et al. 2026, Behavior Knowledge Merge in Reinforced Agentic Models, arXiv:2601.13572",
        base=Base.REQUIRED,
        parameters=(
            EPSILON,
            Parameter("r", Scope.TENSOR, default=0.1, low=0.0, search=Range(0.0, 1.0), doc="strength of the scaling"),
            Parameter(
                "alpha", Scope.TENSOR, default=0.2, low=0.0, search=Range(0.0, 1.0), doc="cap of shared / unique"
            ),
            LINES,
        ),
        plan=plan_ramplus,
    ),
)

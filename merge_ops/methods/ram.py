"""RAM: task vectors summed where one model moved, averaged where several did."""

from __future__ import annotations

from functools import partial

import torch

from .depth_scaling import LINES, depth_factor
from .elementwise import sum_in_order, task_vectors
from .method import Base, Custom, MergeMethod, Numbers, Parameter, Range, Scope, Statistics


def plan_ram(numbers: Numbers, _stats: Statistics) -> Custom:
    """Out = base + sum_i T_i z_i / max(1, c), z_i = [|T_i| > epsilon], c = sum_i z_i."""
    epsilon = float(numbers.tensor["epsilon"])
    return Custom(partial(_merge, epsilon=epsilon, r=0.0, alpha=0.0, factor=depth_factor(numbers)))


def plan_ramplus(numbers: Numbers, _stats: Statistics) -> Custom:
    """As RAM, with elements that one model alone moved scaled by 1 + r clamp(shared_i / unique_i, 0, alpha).

    shared_i and unique_i count the elements that model i moved together with others and alone, per tensor (the paper
    counts over the whole model).
    """
    epsilon, r, alpha = (float(numbers.tensor[name]) for name in ("epsilon", "r", "alpha"))
    return Custom(partial(_merge, epsilon=epsilon, r=r, alpha=alpha, factor=depth_factor(numbers)))


def _merge(
    inputs: tuple[torch.Tensor, ...], base: int | None, *, epsilon: float, r: float, alpha: float, factor: float
) -> torch.Tensor:
    assert base is not None, "Should not reach."
    deltas = task_vectors(inputs, base)
    if not deltas:
        return inputs[base].clone()
    moved = [delta.abs() > epsilon for delta in deltas]
    count = sum_in_order([mask.to(torch.int32) for mask in moved])
    share = 1.0 / count.clamp(min=1).to(deltas[0].dtype)
    terms = []
    for delta, mask in zip(deltas, moved, strict=True):
        unique = int((mask & (count == 1)).sum())
        shared = int((mask & (count > 1)).sum())
        scale = 1.0 + r * min(max(shared / max(unique, epsilon), 0.0), alpha)
        terms.append(delta * mask * torch.where(count == 1, scale, share))
    return sum_in_order(terms).mul_(factor).add_(inputs[base])


EPSILON = Parameter("epsilon", Scope.TENSOR, default=1e-5, low=0.0, doc="a smaller change is none")
METHODS = (
    MergeMethod(
        name="ram",
        summary="Task vectors summed where one model moved, averaged where several did.",
        paper="Yuan et al. 2026, Behavior Knowledge Merge in Reinforced Agentic Models, arXiv:2601.13572",
        base=Base.REQUIRED,
        parameters=(EPSILON, LINES),
        plan=plan_ram,
    ),
    MergeMethod(
        name="ramplus_tl",
        summary="RAM with what one model alone moved scaled up.",
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

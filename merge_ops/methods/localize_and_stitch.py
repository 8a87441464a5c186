"""Localize-and-Stitch without data: the largest elements of every task vector, averaged where they overlap."""

from __future__ import annotations

from functools import partial

import torch

from ..selection import largest
from .depth_scaling import LINES, merged_scale
from .elementwise import sum_in_order, task_vectors
from .method import Base, Custom, LinearCombination, MergeMethod, Numbers, Parameter, Range, Scope, Statistics
from .spectral import SCALE


def plan(numbers: Numbers, _stats: Statistics) -> Custom | LinearCombination:
    """Out = base + lambda * sum_i m_i T_i / max(1, sum_i m_i), m_i the int(density_i * n) largest of |T_i|, at least 1.

    The paper's variant without data. Unlike in the paper the share is taken of every tensor, not of the whole model, so
    that tensors can be merged one by one; and the result can be scaled.
    """
    if not numbers.others:
        return LinearCombination((1.0,))
    densities = tuple(float(numbers.inputs[i]["density"]) for i in numbers.others)
    return Custom(partial(_merge, densities=densities, scale=merged_scale(numbers)))


def _merge(
    inputs: tuple[torch.Tensor, ...], base: int | None, *, densities: tuple[float, ...], scale: float
) -> torch.Tensor:
    assert base is not None, "Should not reach."
    deltas = task_vectors(inputs, base)
    masks = [
        largest(delta, max(1, int(density * delta.numel())) if density > 0.0 else 0)
        for delta, density in zip(deltas, densities, strict=True)
    ]
    overlap = sum_in_order([mask.to(torch.int32) for mask in masks]).clamp_(min=1).to(deltas[0].dtype)
    total = sum_in_order([delta * mask for delta, mask in zip(deltas, masks, strict=True)])
    return (total / overlap).mul_(scale).add_(inputs[base])


METHODS = (
    MergeMethod(
        name="localize_and_stitch",
        summary="The largest elements of every task vector, averaged where they overlap.",
        paper="He et al. 2024, Localize-and-Stitch, arXiv:2408.13656",
        base=Base.REQUIRED,
        parameters=(
            Parameter(
                "density",
                Scope.NON_BASE,
                default=0.05,
                low=0.0,
                high=1.0,
                search=Range(0.01, 0.5, log=True),
                doc="share of the task vector's elements that are stitched in",
            ),
            SCALE,
            LINES,
        ),
        plan=plan,
        mergekit=False,
    ),
)

"""Localize-and-Stitch without data: the largest elements of every task vector, averaged where they overlap."""

from __future__ import annotations

from .base.declaration import Base, MergeMethod, Parameter, ParameterValues, Range, Scope, Statistics
from .base.depth_scaling import LINES, merged_scale
from .base.plans import KeepLargest, LinearCombination, MaskedSum, SourceRule
from .base.spectral import SCALE


def plan(values: ParameterValues, _stats: Statistics) -> MaskedSum | LinearCombination:
    """Out = base + lambda * sum_i m_i T_i / max(1, sum_i m_i), m_i the int(density_i * n) largest of |T_i|, at least 1.

    The paper's variant without data. Unlike in the paper the share is taken of every tensor, not of the whole model, so
    that tensors can be merged one by one; and the result can be scaled.
    """
    if not values.others:
        return LinearCombination((1.0,))
    rules = tuple(SourceRule(1.0, KeepLargest(float(values.inputs[i]["density"]))) for i in values.others)
    return MaskedSum(rules, average=True, scale=merged_scale(values))


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

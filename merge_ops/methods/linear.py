"""Weighted average of whole models."""

from __future__ import annotations

from .base.declaration import Base, MergeMethod, Parameter, ParameterValues, PlanError, Range, Scope, Statistics
from .base.plans import LinearCombination


def plan(values: ParameterValues, _stats: Statistics) -> LinearCombination:
    """Out = sum_i w_i x_i, divided by sum_i w_i with `normalize`."""
    weights = [float(model["weight"]) for model in values.inputs]
    total = sum(weights) if values.tensor["normalize"] else 1.0
    if total == 0.0:
        raise PlanError(f"with normalize: true the weights must not sum to 0, but are {weights}")
    return LinearCombination(tuple(weight / total for weight in weights))


METHODS = (
    MergeMethod(
        name="linear",
        summary="Weighted average of whole models.",
        paper="Wortsman et al. 2022, Model soups, arXiv:2203.05482",
        base=Base.IGNORED,
        parameters=(
            Parameter("weight", Scope.INPUT, required=True, search=Range(0.0, 1.0), doc="share of this model"),
            Parameter("normalize", Scope.TENSOR, default=True, kind=bool, doc="divide by the sum of the weights"),
        ),
        plan=plan,
    ),
)

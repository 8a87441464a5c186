"""One model, tensor by tensor, optionally scaled: for stacking layers of several models."""

from __future__ import annotations

from .base.declaration import Base, MergeMethod, Parameter, ParameterValues, Scope, Statistics
from .base.plans import LinearCombination


def plan(values: ParameterValues, _stats: Statistics) -> LinearCombination:
    """Out = scale * x; without a scale the bits of x."""
    scale = values.inputs[0]["scale"]
    return LinearCombination((1.0 if scale is None else float(scale),))


METHODS = (
    MergeMethod(
        name="passthrough",
        summary="Copies one model's tensors, optionally scaled: stacks layers of several models.",
        paper="Kim et al. 2024, SOLAR 10.7B (depth up-scaling), arXiv:2312.15166",
        base=Base.IGNORED,
        max_inputs=1,
        parameters=(Parameter("scale", Scope.INPUT, doc="factor on every element; none: copied bit for bit"),),
        plan=plan,
    ),
)

"""LiNeS: task vectors scaled linearly by depth, as a parameter that every task-vector method takes.

The merged task vector of layer b of L is multiplied by 1 + lines * b / (L - 1); that of a tensor outside the layers
(embeddings, final norm, head) by 1. A model of one layer keeps scale 1. Layers are those of the output model.

Wang et al. 2024, LiNeS, arXiv:2410.17146, equation for lambda(l) = alpha + beta (l - 1) / (L - 1), l from 1: with the
method's own scale alpha (its lambda), `lines` is beta / alpha. A ratio, so that scale and slope can be searched
independently. Unlike the paper, alpha is not set from the norms of the task vectors: it is searched. Scaling the merged
task vector equals scaling each one before it is masked, since masks depend on the order of magnitudes alone.
"""

from __future__ import annotations

from .declaration import Parameter, ParameterValues, Scope

LINES = Parameter(
    "lines",
    Scope.TENSOR,
    default=0.0,
    mergekit=False,
    doc="LiNeS slope: layer b of L scales by 1 + lines * b / (L - 1)",
)
LAMBDA = Parameter("lambda", Scope.TENSOR, default=1.0, doc="scale of the merged task vector")


def depth_factor(values: ParameterValues) -> float:
    """Return 1 + lines * depth; 1 outside the layers."""
    return 1.0 + float(values.tensor["lines"]) * (values.depth or 0.0)


def merged_scale(values: ParameterValues) -> float:
    """Return a method's lambda times its depth factor."""
    return float(values.tensor["lambda"]) * depth_factor(values)

"""Spherical mean of several models or task vectors around their weighted mean direction."""

from __future__ import annotations

import math

import numpy as np

from .base.combinations import over_task_vectors
from .base.declaration import Base, MergeMethod, Parameter, ParameterValues, PlanError, Range, Scope, Statistics
from .base.plans import LinearCombination, RowCombination


def plan(values: ParameterValues, stats: Statistics) -> LinearCombination | RowCombination:
    """Out = cos(eps) m / |m| * sum_i w_i |v_i| with m = sum_i w_i v_i / (|v_i| + eps).

    v_i is the model, or its task vector if there is a base. mergekit maps the v_i / |v_i| to the tangent space at
    m / |m|, averages and maps back. There the weighted mean is 0 up to rounding, so that its tangent has the length
    eps alone, and the map reduces to the factor cos(eps). If m vanishes, two models are averaged and more are rejected;
    but if all v_i are 0 (a tensor that no model changed), so is the result, where mergekit fails.
    """
    others = values.others
    if len(others) == 1:
        return LinearCombination(tuple(float(i == others[0]) for i in range(len(values.inputs))))
    weights = np.array([float(values.inputs[i]["weight"]) for i in others])
    eps = float(values.tensor["eps"])
    if values.tensor["normalize_weights"]:
        if weights.sum() == 0.0:
            raise PlanError(f"with normalize_weights: true the weights must not sum to 0, but are {weights.tolist()}")
        weights = weights / weights.sum()
    gram = stats.gram() if values.base is None else stats.delta_gram()
    norms = np.sqrt(np.diag(gram))
    mean = weights / (norms + eps)
    length = float(np.sqrt(max(0.0, mean @ gram @ mean)))
    if length < eps:
        if not norms.any():
            return over_task_vectors([0.0] * len(others), values)
        if len(others) == 2:
            return over_task_vectors([float(w) for w in weights], values)
        raise PlanError(f"the weighted mean direction vanishes (norm {length:g} < eps {eps:g}); change the weights")
    return over_task_vectors([float(c) for c in math.cos(eps) * mean / length * (weights @ norms)], values)


METHODS = (
    MergeMethod(
        name="multislerp",
        summary="Spherical mean of several models, or of their task vectors.",
        paper="Buss and Fillmore 2001, Spherical averages, doi:10.1145/502122.502124",
        base=Base.OPTIONAL,
        parameters=(
            Parameter("weight", Scope.NON_BASE, required=True, search=Range(0.05, 1.0), doc="weight of this model"),
            Parameter("normalize_weights", Scope.TENSOR, default=True, kind=bool, doc="divide by the sum of weights"),
            Parameter("eps", Scope.TENSOR, default=1e-8, low=0.0, doc="keeps norms from 0"),
        ),
        plan=plan,
        statistics=("gram", "delta_gram"),
    ),
)

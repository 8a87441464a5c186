"""Spherical interpolation with weights, of whole tensors or of their rows, optionally of task vectors."""

from __future__ import annotations

import numpy as np

from .base.combinations import over_task_vectors
from .base.declaration import Base, MergeMethod, Parameter, ParameterValues, Range, Scope, Statistics
from .base.plans import LinearCombination, RowCombination

NO_WEIGHT = 1e-6  # if the sum of the weights is smaller, they count as equal
TINY_NORM = 1e-7  # lower bound of norms
PARALLEL = 6e-8  # 1 - cos^2 at float32's resolution, below which vectors count as parallel


def plan(values: ParameterValues, stats: Statistics) -> LinearCombination | RowCombination:
    """Out = sin((1-t) theta) / sin(theta) v_1 + sin(t theta) / sin(theta) v_2, with t = w_2 / (w_1 + w_2).

    v_i is the model, or its task vector if there is a base; theta the angle between the flattened tensors, or
    between their vectors along the last dimension (with `nuslerp_row_wise` along the first).
    """
    first, second = (float(values.inputs[i]["weight"]) for i in values.others)
    t = 0.5 if abs(first + second) < NO_WEIGHT else second / (first + second)
    deltas = values.base is not None
    if values.tensor["nuslerp_flatten"]:
        gram = stats.delta_gram() if deltas else stats.gram()
        return over_task_vectors([float(c) for c in _coefficients(gram, t)], values)
    gram = stats.vector_gram(0 if values.tensor["nuslerp_row_wise"] else -1, deltas=deltas)
    return over_task_vectors(list(_coefficients(gram, t)), values)


def _coefficients(gram: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the two coefficients for Gram matrices (2, 2, ...)."""
    norms = [np.maximum(np.sqrt(gram[i, i]), TINY_NORM) for i in (0, 1)]
    cosine = np.clip(gram[0, 1] / (norms[0] * norms[1]), -1.0, 1.0)
    straight = 1.0 - cosine**2 <= PARALLEL
    theta = np.where(straight, 1.0, np.arccos(cosine))
    arc = np.sin((1.0 - t) * theta) / np.sin(theta), np.sin(t * theta) / np.sin(theta)
    return np.where(straight, 1.0 - t, arc[0]), np.where(straight, t, arc[1])


METHODS = (
    MergeMethod(
        name="nuslerp",
        summary="Spherical interpolation of two models or task vectors by weights, whole or row by row.",
        paper="Shoemake 1985, doi:10.1145/325334.325242",
        base=Base.OPTIONAL,
        min_inputs=2,
        max_inputs=2,
        parameters=(
            Parameter("weight", Scope.NON_BASE, required=True, search=Range(0.0, 1.0), doc="share of this model"),
            Parameter("nuslerp_flatten", Scope.TENSOR, default=True, kind=bool, doc="one angle per tensor"),
            Parameter(
                "nuslerp_row_wise", Scope.TENSOR, default=False, kind=bool, doc="vectors along the first dimension"
            ),
        ),
        plan=plan,
        statistics=("gram", "delta_gram", "vector_gram"),
    ),
)

"""Spherical interpolation between two models."""

from __future__ import annotations

import math

import numpy as np

from .base.declaration import Base, MergeMethod, Parameter, ParameterValues, Range, Scope, Statistics
from .base.plans import LinearCombination

NEARLY_PARALLEL = 0.9995  # cosine beyond which both ends are interpolated linearly
TINY_NORM = 1e-8  # a vector of at most this norm is not normalized


def plan(values: ParameterValues, stats: Statistics) -> LinearCombination:
    """Out = sin((1-t) theta) / sin(theta) * base + sin(t theta) / sin(theta) * x (Shoemake 1985).

    theta is the angle between the flattened tensors; the vectors that are combined are the unnormalized ones.
    Both ends nearly parallel or antiparallel: (1-t) base + t x.
    """
    t = float(values.tensor["t"])
    base, other = values.base or 0, values.others[0]
    first, second = _coefficients(t, _cosine(stats.gram(), base, other))
    coefficients = [0.0, 0.0]
    coefficients[base], coefficients[other] = first, second
    return LinearCombination(tuple(coefficients))


def _cosine(gram: np.ndarray, i: int, j: int) -> float:
    norms = [math.sqrt(gram[k, k]) for k in (i, j)]
    scale = math.prod(norm if norm > TINY_NORM else 1.0 for norm in norms)
    return min(1.0, max(-1.0, float(gram[i, j]) / scale))


def _coefficients(t: float, cosine: float) -> tuple[float, float]:
    if abs(cosine) > NEARLY_PARALLEL:
        return 1.0 - t, t
    theta = math.acos(cosine)
    return math.sin((1.0 - t) * theta) / math.sin(theta), math.sin(t * theta) / math.sin(theta)


METHODS = (
    MergeMethod(
        name="slerp",
        summary="Spherical interpolation between two models: t = 0 gives the base model, t = 1 the other.",
        paper="Shoemake 1985, Animating rotation with quaternion curves, doi:10.1145/325334.325242",
        base=Base.REQUIRED,
        min_inputs=2,
        max_inputs=2,
        parameters=(
            Parameter("t", Scope.TENSOR, required=True, search=Range(0.0, 1.0), doc="place between the two models"),
        ),
        plan=plan,
        statistics=("gram",),
    ),
)

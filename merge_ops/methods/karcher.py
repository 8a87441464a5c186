"""Riemannian (Karcher) mean of the models' directions on the sphere."""

from __future__ import annotations

import math

import numpy as np

from .base.declaration import Base, MergeMethod, Parameter, ParameterValues, Scope, Statistics
from .base.plans import LinearCombination


def plan(values: ParameterValues, stats: Statistics) -> LinearCombination:
    """Out = mean norm * m, m the point of the unit sphere with sum_i log_m(u_i) = 0, u_i = x_i / |x_i|.

    The iteration m <- exp_m(mean_i log_m(u_i)) runs on the coefficients of m over the u_i: every inner product that it
    needs is in the Gram matrix. All models have equal weight, as in mergekit (the paper has weights).
    """
    tolerance = float(values.tensor["tol"])
    gram = stats.gram()
    norms = np.sqrt(np.diag(gram))
    valid = norms > tolerance
    if not valid.any():
        return LinearCombination((0.0,) * len(norms))
    safe = np.where(valid, norms, 1.0)
    units = gram / np.outer(safe, safe)
    mean = _mean(units, valid, int(values.tensor["max_iter"]), tolerance)
    return LinearCombination(tuple(float(c) for c in mean / safe * norms.mean()))


def _mean(units: np.ndarray, valid: np.ndarray, iterations: int, tolerance: float) -> np.ndarray:
    """Return the mean's coefficients over the unit vectors."""
    share = valid / valid.sum()
    mean = share.copy()
    length = _norm(mean, units)
    if length < tolerance:
        mean = np.eye(len(valid))[int(np.argmax(valid))]
    else:
        mean /= length
    for _ in range(iterations):
        tangent = np.zeros_like(mean)
        for i in np.flatnonzero(valid):
            cosine = min(1.0, max(-1.0, float(units[i] @ mean)))
            theta = math.acos(cosine)
            if theta < tolerance or math.sin(theta) < 1e-12:  # equal or opposite: there is no direction
                continue
            tangent += share[i] * theta / math.sin(theta) * (np.eye(len(mean))[i] - cosine * mean)
        step = _norm(tangent, units)
        if step < tolerance:
            break
        mean = math.cos(step) * mean + math.sin(step) / step * tangent
        length = _norm(mean, units)
        if length > tolerance:
            mean /= length
    return mean


def _norm(coefficients: np.ndarray, units: np.ndarray) -> float:
    return math.sqrt(max(0.0, float(coefficients @ units @ coefficients)))


METHODS = (
    MergeMethod(
        name="karcher",
        summary="Riemannian mean of the models' directions, at their mean norm.",
        paper="Karcher 1977, Riemannian center of mass, doi:10.1002/cpa.3160300502; Wang et al. 2026, arXiv:2603.04972",
        base=Base.IGNORED,
        parameters=(
            Parameter("max_iter", Scope.TENSOR, default=10, kind=int, low=0, doc="most iterations"),
            Parameter("tol", Scope.TENSOR, default=1e-5, low=0.0, doc="angle and step taken for 0"),
        ),
        plan=plan,
        statistics=("gram",),
    ),
)

"""Turns coefficients of task vectors (or of models) into a combination over all inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .declaration import ParameterValues
from .plans import LinearCombination, RowCombination


def over_task_vectors(
    coefficients: Sequence[float] | Sequence[np.ndarray], values: ParameterValues
) -> LinearCombination | RowCombination:
    """Return the plan of base + sum_i c_i (x_i - base), or of sum_i c_i x_i without a base.

    One coefficient per non-base input, in order: scalars, or arrays that broadcast against the tensor.
    """
    per_input: list[float | np.ndarray] = [0.0] * len(values.inputs)
    for i, coefficient in zip(values.others, coefficients, strict=True):
        per_input[i] = coefficient
    if values.base is not None:
        per_input[values.base] = 1.0 - sum(coefficients[1:], coefficients[0])
    if all(np.ndim(coefficient) == 0 for coefficient in per_input):
        return LinearCombination(tuple(float(coefficient) for coefficient in per_input))
    shape = np.broadcast_shapes(*(np.shape(coefficient) for coefficient in per_input))
    return RowCombination(tuple(np.broadcast_to(coefficient, shape) for coefficient in per_input))

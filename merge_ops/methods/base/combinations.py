"""Turns coefficients of task vectors (or of models) into a combination over all inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .declaration import ParameterValues
from .plans import LinearCombination, RowCombination


def over_task_vectors(
    coefficients: Sequence[float] | Sequence[np.ndarray], values: ParameterValues
) -> LinearCombination | RowCombination:
    """Out = base + sum_i c_i (x_i - base), or sum_i c_i x_i where there is no base.

    One coefficient per non-base input, in order: numbers, or arrays that broadcast against the tensor.
    """
    everywhere: list[float | np.ndarray] = [0.0] * len(values.inputs)
    for place, coefficient in zip(values.others, coefficients, strict=True):
        everywhere[place] = coefficient
    if values.base is not None:
        everywhere[values.base] = 1.0 - sum(coefficients[1:], coefficients[0])
    if all(np.ndim(coefficient) == 0 for coefficient in everywhere):
        return LinearCombination(tuple(float(coefficient) for coefficient in everywhere))
    shape = np.broadcast_shapes(*(np.shape(coefficient) for coefficient in everywhere))
    return RowCombination(tuple(np.broadcast_to(coefficient, shape) for coefficient in everywhere))

"""Derivatives of one merged tensor in the weights of its sources, as inner products with a gradient.

Covers merges that are linear in their weights up to normalization: theta = theta_0 + sum_k w_k d_k, or that sum divided
by the sum of the weights that count. Masks, rescale factors and elected signs are constants at the current weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..bank.input_statistics import InputStatistics
from ..executors.job import TensorJob
from ..methods import LinearCombination, MaskedSum, MergeMethod, ParameterValues
from ..methods.base.plans import NO_DIVISOR
from .masked_derivative import KeptElements, kept_of_sources, masked_products, piece_products

WEIGHT = "weight"
TOLERANCE = 1e-9  # relative error up to which coefficients count as linear in the weights


class NoWeightDerivativeError(ValueError):
    """The merge is not linear in its weights, so it has no derivative here; the message names method and tensor."""


@dataclass(frozen=True)
class TensorDerivative:
    """How to obtain dL/dw of one output tensor from dL/dtheta.

    `plan` determines the inner products <dL/dtheta, d_i>: with the inputs (a linear combination) or with the masked
    task vectors of the sources. `matrix` (inputs, inner products) turns them into one derivative per input,
    0 for inputs without a weight.
    """

    plan: LinearCombination | MaskedSum
    matrix: np.ndarray

    def products(
        self, gradient: torch.Tensor, first: int, job: TensorJob, kept: Sequence[KeptElements]
    ) -> torch.Tensor:
        """Return the inner products with a piece of the gradient, 1-d float64 on its device.

        Args:
            gradient: dL/dtheta of consecutive elements, any shape.
            first: the index of the piece's first element in the flattened tensor.
            job: the tensor's inputs.
            kept: the elements that the masks of a `MaskedSum` keep; see `kept_elements`.
        """
        if isinstance(self.plan, MaskedSum):
            return masked_products(gradient, first, self.plan, job.base_and_sources, kept)
        return piece_products(gradient, first, job.inputs)

    def kept_elements(self, job: TensorJob) -> tuple[KeptElements, ...]:
        """Return the elements that every source keeps; empty without masks. Reusable until another recipe is loaded."""
        return kept_of_sources(self.plan, job.base_and_sources, job) if isinstance(self.plan, MaskedSum) else ()


def tensor_derivative(method: MergeMethod, values: ParameterValues) -> TensorDerivative:
    """Return the derivative of a tensor with these parameters.

    Raises:
        NoWeightDerivativeError: the method has no weights, or is not linear in them.
    """
    weights = _weights(values)
    if method.statistics or not weights:
        raise NoWeightDerivativeError(f"{method.name}: its result is not linear in weights of its sources")
    plan = _plan(method, values, {})
    if isinstance(plan, MaskedSum):
        if plan.average or [rule.weight for rule in plan.rules] != [weights.get(i) for i in values.others]:
            raise NoWeightDerivativeError(f"{method.name}: its masked sum is not weighted by its weights")
        return TensorDerivative(plan, _masked_matrix(plan, values))
    if not isinstance(plan, LinearCombination):
        raise NoWeightDerivativeError(f"{method.name}: its result is not linear in weights of its sources")
    return TensorDerivative(plan, _linear_matrix(method, values, weights))


def _weights(values: ParameterValues) -> dict[int, float]:
    """Return index of the input -> weight, for every input that has one."""
    return {i: float(given[WEIGHT]) for i, given in enumerate(values.inputs) if WEIGHT in given}


def _linear_matrix(method: MergeMethod, values: ParameterValues, weights: Mapping[int, float]) -> np.ndarray:
    """Return (inputs, inputs): entry (k, i) is the derivative of input i's coefficient in input k's weight."""
    total = sum(weights.values())
    normalized = bool(values.tensor.get("normalize")) and abs(total) >= NO_DIVISOR
    if normalized:
        values = replace(values, tensor={**values.tensor, "normalize": False})
    here = _coefficients(method, values, {})
    matrix = np.zeros((len(values.inputs), len(values.inputs)))
    for k, weight in weights.items():
        step = _coefficients(method, values, {k: weight + 1.0}) - here
        twice = _coefficients(method, values, {k: weight + 2.0}) - here
        if not np.allclose(twice, 2.0 * step, rtol=TOLERANCE, atol=TOLERANCE):
            raise NoWeightDerivativeError(f"{method.name}: its result is not linear in weights of its sources")
        matrix[k] = step
    if normalized:  # the quotient rule for sum_k w_k d_k / sum_k w_k
        mean = sum(weight * matrix[k] for k, weight in weights.items()) / total
        for k in weights:
            matrix[k] = (matrix[k] - mean) / total
    return matrix


def _masked_matrix(plan: MaskedSum, values: ParameterValues) -> np.ndarray:
    """Return (inputs, sources): assigns the sources' products to inputs, minus the change of a common divisor."""
    weights = np.array([rule.weight for rule in plan.rules])
    matrix = np.zeros((len(values.inputs), len(weights)))
    matrix[list(values.others), range(len(weights))] = 1.0
    if plan.normalize and not plan.consensus and abs(weights.sum()) >= NO_DIVISOR:
        matrix[list(values.others)] -= weights / weights.sum()
    return matrix


def _coefficients(method: MergeMethod, values: ParameterValues, weights: Mapping[int, float]) -> np.ndarray:
    plan = _plan(method, values, weights)
    assert isinstance(plan, LinearCombination), "Should not reach."
    return np.array(plan.coefficients)


def _plan(method: MergeMethod, values: ParameterValues, weights: Mapping[int, float]) -> Any:
    """Return the method's plan with some weights replaced."""
    inputs = tuple({**v, WEIGHT: weights[i]} if i in weights else v for i, v in enumerate(values.inputs))
    return method.plan(replace(values, inputs=inputs), InputStatistics(list, values.base))

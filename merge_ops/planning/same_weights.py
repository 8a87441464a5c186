"""Recognises recipes that give the same weights, although their methods or parameters differ.

The uniform average and task arithmetic of total weight 1 are an example: both are the same sum of the fine-tunes.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, cast

from ..methods import LinearCombination, PlanError, Statistics
from .merge_plan import MergePlan, TensorTask

DECIMALS = 12  # float64 rounding of weights such as 1 - 3 * (1 / 3) is far below, steps of a search far above


def weights_key(plan: MergePlan) -> str | None:
    """Return a digest that is equal for plans of the same weights; None if a tensor is no fixed sum of source tensors.

    Two plans have equal digests if every output tensor is a sum of the same source tensors with the same coefficients,
    rounded to 12 decimals, computed and stored in the same dtypes, and their configurations come from the same model.
    The order of the sum may differ, so equal digests mean equal weights up to rounding.
    """
    if plan.method.statistics or plan.method.random or plan.vocabulary is not None:
        return None
    tensors: list[tuple[str, Any]] = []
    for task in plan.tasks:
        terms = _terms(task, plan)
        if terms is None:
            return None
        tensors.append((task.name, terms))
    settings = [plan.recipe.dtype, plan.recipe.out_dtype, plan.donor, plan.layers]
    return hashlib.sha256(json.dumps([settings, tensors]).encode()).hexdigest()


def _terms(task: TensorTask, plan: MergePlan) -> list[tuple[str, str, float]] | None:
    """Return (model, tensor, coefficient) of all terms that are not 0, sorted; None if the tensor is no such sum."""
    if task.copied:
        return [(*task.inputs[0], 1.0)]
    try:
        combination = plan.method.plan(task.values, cast(Statistics, None))  # its declaration asks for no statistics
    except PlanError:
        return None
    if not isinstance(combination, LinearCombination):
        return None
    sums: dict[tuple[str, str], float] = {}
    for key, coefficient in zip(task.inputs, combination.coefficients, strict=True):
        sums[key] = sums.get(key, 0.0) + coefficient
    return sorted((*key, value) for key, total in sums.items() if (value := round(total, DECIMALS)))

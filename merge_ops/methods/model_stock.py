"""Average of fine-tunes pulled towards the base by the angle between their task vectors."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from .base.combinations import over_task_vectors
from .base.declaration import Base, MergeMethod, Parameter, ParameterValues, Scope, Statistics
from .base.plans import LinearCombination, RowCombination

TINY, NO_DIVISOR = 1e-6, 1e-6


def plan(values: ParameterValues, stats: Statistics) -> LinearCombination | RowCombination:
    """Out = t mean_i(x_i) + (1 - t) base, t = N cos / (1 + (N - 1) cos) (paper, equation 3).

    cos is the mean cosine over the pairs of task vectors, of whole tensors or (`filter_wise`) of rows.
    """
    count = len(values.others)
    gram = stats.vector_gram(-1, deltas=True) if values.tensor["filter_wise"] else stats.delta_gram()
    norms = [np.sqrt(gram[i, i]) for i in range(count)]
    cosines = [
        np.clip(gram[i, j] / np.maximum(norms[i] * norms[j], TINY), -1.0, 1.0) for i, j in combinations(range(count), 2)
    ]
    cosine = sum(cosines) / len(cosines)
    divisor = 1.0 + (count - 1) * cosine
    flat = np.abs(divisor) < NO_DIVISOR
    t = np.where(flat, 0.0, count * cosine / np.where(flat, 1.0, divisor))
    return over_task_vectors([t / count] * count, values)


METHODS = (
    MergeMethod(
        name="model_stock",
        summary="Average of fine-tunes, pulled towards the base the more their task vectors diverge.",
        paper="Jang et al. 2024, Model Stock, arXiv:2403.19522",
        base=Base.REQUIRED,
        min_inputs=3,
        parameters=(Parameter("filter_wise", Scope.TENSOR, default=False, kind=bool, doc="one t per row"),),
        plan=plan,
        statistics=("delta_gram", "vector_gram"),
    ),
)

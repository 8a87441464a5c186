"""Shared parts of the methods that decompose task matrices.

They work on matrices in the layers. Other tensors (biases, norms, stacks of matrices, and embeddings and head, whose
rows are tokens) take the mean of the task vectors, as in the papers' code. The decomposition does not depend on any
parameter value, so a search computes it once per tensor; a candidate is one scaled addition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...numerics.lazy_torch import torch
from ...numerics.reductions import one_thread
from .declaration import Parameter, ParameterValues, Range, Scope, Statistics
from .depth_scaling import LAMBDA, LINES, merged_scale
from .elementwise import sum_in_order
from .plans import AddDelta, LinearCombination

SCALE = Parameter(LAMBDA.name, Scope.TENSOR, default=1.0, search=Range(0.0, 2.0), doc="scale of the merged task vector")
PARAMETERS = (SCALE, LINES)


def plan_spectral(
    values: ParameterValues, stats: Statistics, *, derive: Callable[[Sequence[torch.Tensor]], torch.Tensor]
) -> AddDelta | LinearCombination:
    """Out = base + lambda * derive(task matrices) in the layers, base + lambda * mean(task vectors) elsewhere."""
    if not values.others:
        return LinearCombination((1.0,))
    delta = stats.merged_delta(mean if values.depth is None else derive)
    return AddDelta(delta, merged_scale(values))


def mean(deltas: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the mean task vector."""
    return sum_in_order(deltas) * (1.0 / len(deltas))


def svd(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return U (m, r), s (r,), V^T (r, n) in float64, without the directions of the numerical null space.

    In a null space the decomposition's directions are arbitrary: they differ between machines and mean nothing.
    """
    with one_thread():
        u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    rank = int((s > s.max() * max(matrix.shape) * torch.finfo(torch.float64).eps).sum()) if s.numel() else 0
    return u[:, :rank], s[:rank], vt[:rank]


def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the matrix product, with the same bits for every number of threads."""
    with one_thread():
        return left @ right

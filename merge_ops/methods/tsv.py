"""TSV-Merge: the strongest singular directions of every task matrix, made orthogonal to the other tasks'."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..numerics.lazy_torch import torch
from .base.declaration import Base, MergeMethod
from .base.spectral import PARAMETERS, mean, plan_spectral, product, svd


def whitened(deltas: Sequence[torch.Tensor]) -> torch.Tensor:
    """D = U' diag(s) V'^T, with U', V' the orthogonal matrices nearest to the tasks' concatenated directions.

    Of each of N task matrices the max(1, floor(min(m, n) / N)) strongest singular directions count; for
    U = P S Q^T the nearest orthogonal matrix is P Q^T (paper, section on TSV-Merge). Unlike in the paper, directions of
    a numerical null space are left out, of the task matrices and of their concatenation.
    """
    if deltas[0].dim() != 2 or deltas[0].numel() == 0:
        return mean(deltas)
    share = max(1, min(deltas[0].shape) // len(deltas))
    parts = [svd(delta) for delta in deltas]
    u = torch.cat([u[:, :share] for u, _, _ in parts], dim=1)
    s = torch.cat([s[:share] for _, s, _ in parts])
    vt = torch.cat([vt[:share] for _, _, vt in parts], dim=0)
    if not s.numel():
        return torch.zeros_like(deltas[0])
    return product(_nearest_orthogonal(u) * s, _nearest_orthogonal(vt)).to(deltas[0].dtype)


def _nearest_orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    u, _, vt = svd(matrix)
    return product(u, vt)


METHODS = (
    MergeMethod(
        name="tsv",
        summary="The strongest singular directions of every task matrix, decorrelated between tasks (TSV-Merge).",
        paper="Gargiulo et al. 2024, Task Singular Vectors, arXiv:2412.00081",
        base=Base.REQUIRED,
        parameters=PARAMETERS,
        plan=partial(plan_spectral, derive=whitened),
        statistics=("merged_delta",),
        mergekit=False,
    ),
)

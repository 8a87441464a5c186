"""Iso-C: the sum of the task matrices with all singular values made equal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from .base.declaration import Base, MergeMethod
from .base.elementwise import sum_in_order
from .base.spectral import PARAMETERS, mean, plan_spectral, product, svd

if TYPE_CHECKING:
    import torch


def isotropic(deltas: Sequence[torch.Tensor]) -> torch.Tensor:
    """D = mean(s) U V^T for U diag(s) V^T = sum_i D_i (paper, section 4, Iso-C).

    The mean runs over all min(m, n) singular values. Unlike in the paper, directions of the numerical null space are
    left out: there U V^T is arbitrary. With full rank nothing changes.
    """
    if deltas[0].dim() != 2 or deltas[0].numel() == 0:
        return mean(deltas)
    total = sum_in_order(deltas)
    u, s, vt = svd(total)
    return (product(u, vt) * (float(s.sum()) / min(total.shape))).to(total.dtype)


METHODS = (
    MergeMethod(
        name="iso_c",
        summary="Sum of the task matrices with a flat spectrum: no direction dominates.",
        paper="Marczak et al. 2025, No Task Left Behind: Isotropic Model Merging, arXiv:2502.04959",
        base=Base.REQUIRED,
        parameters=PARAMETERS,
        plan=partial(plan_spectral, derive=isotropic),
        statistics=("merged_delta",),
        mergekit=False,
    ),
)

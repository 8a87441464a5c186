"""Select, calculate, erase: the most variable elements, models weighted by their energy, minority signs erased."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..numerics.lazy_torch import torch
from ..numerics.reductions import chunked_sum
from ..numerics.top_k import largest
from .base.declaration import Base, MergeMethod, Parameter, ParameterValues, Range, Scope, Statistics
from .base.depth_scaling import LINES, depth_factor
from .base.elementwise import sum_in_order, task_vectors
from .base.plans import Custom, LinearCombination

NO_ENERGY, NO_DIVISOR = 1e-6, 1e-6


def plan(values: ParameterValues, _stats: Statistics) -> Custom | LinearCombination:
    """Out = base + sum_i s_i e_i T_i / sum_i s_i e_i, T_i the task vectors on the selected elements.

    s_i is T_i's mean square over the sum of all models'; e_i = 1 if T_i has the sign of sum_j T_j.
    """
    if not values.others:
        return LinearCombination((1.0,))
    share, scale = float(values.tensor["select_topk"]), depth_factor(values)
    return Custom(partial(_merge, share=share, scale=scale), "sce", (share, scale))


def _merge(inputs: tuple[torch.Tensor, ...], base: int | None, *, share: float, scale: float) -> torch.Tensor:
    assert base is not None, "Should not reach."
    deltas = task_vectors(inputs, base)
    if share < 1.0:
        mask = most_variable(deltas, share)
        deltas = [delta * mask for delta in deltas]
    return energy_weighted(deltas).mul_(scale).add_(inputs[base])


def energy_weighted(deltas: list[torch.Tensor]) -> torch.Tensor:
    """Return the mean of the task vectors weighted by energy, of those with the majority's sign at each element."""
    energies = [chunked_sum([delta], torch.square) / max(1, delta.numel()) for delta in deltas]
    scales = energy_shares(energies)
    elected = torch.where(sum_in_order(deltas) >= 0, 1.0, -1.0)
    agrees = [(delta.sign() == elected).to(delta.dtype) * scale for delta, scale in zip(deltas, scales, strict=True)]
    divisor = sum_in_order(agrees).clamp_(min=NO_DIVISOR)
    return sum_in_order([d * a for d, a in zip(deltas, agrees, strict=True)]).div_(divisor)


def energy_shares(energies: Sequence[float]) -> tuple[float, ...]:
    """Return each model's share of the energy; equal shares if there is next to none."""
    total = sum(energies)
    return tuple(1.0 / len(energies) if abs(total) < NO_ENERGY else energy / total for energy in energies)


def most_variable(deltas: list[torch.Tensor], share: float) -> torch.Tensor:
    """Return the mask of the int(share * n) elements of largest variance over the models; n have any variance."""
    values = variance(deltas)
    count = int(int(values.count_nonzero()) * share)
    return largest(values, count)


def variance(deltas: list[torch.Tensor]) -> torch.Tensor:
    """Return the variance of each element over the models."""
    mean = sum_in_order(deltas) * (1.0 / len(deltas))
    return sum_in_order([(delta - mean).square_() for delta in deltas]) * (1.0 / len(deltas))


METHODS = (
    MergeMethod(
        name="sce",
        summary="Task vectors on the elements where models differ most, weighted by energy, minority signs erased.",
        paper="Wan et al. 2024, FuseChat, arXiv:2408.07990",
        base=Base.REQUIRED,
        parameters=(
            Parameter(
                "select_topk",
                Scope.TENSOR,
                default=1.0,
                low=0.0,
                high=1.0,
                search=Range(0.05, 1.0),
                doc="share selected",
            ),
            LINES,
            Parameter(
                "int8_mask", Scope.TENSOR, default=False, kind=bool, effect=False, doc="mergekit's storage choice"
            ),
        ),
        plan=plan,
    ),
)

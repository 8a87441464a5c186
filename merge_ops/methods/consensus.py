"""Consensus merging: the sum of the task vectors, at the elements that enough tasks need by their TALL masks."""

from __future__ import annotations

from functools import partial

from ..numerics.lazy_torch import torch
from .base.declaration import Base, MergeMethod, Parameter, ParameterValues, PlanError, Range, Scope, Statistics
from .base.depth_scaling import LINES, merged_scale
from .base.elementwise import sum_in_order, task_vectors
from .base.plans import Custom
from .base.spectral import SCALE


def plan(values: ParameterValues, _stats: Statistics) -> Custom:
    """Out = base + lambda * [sum_i m_i >= agreement] * T, with T = sum_i T_i and m_i = [|T_i| > threshold |T - T_i|].

    m_i is task i's TALL mask: the elements at which its change outweighs the sum of the others' (paper, equations for
    TALL-masks and the consensus mask). Agreement 1 drops elements that no task needs ("catastrophic"), 2 also
    those that only one task needs ("selfish").
    Unlike in the paper, one threshold holds for all tasks instead of one per task tuned on validation data.
    """
    agreement = int(values.tensor["agreement"])
    if agreement > len(values.others):
        raise PlanError(
            f"agreement must be at most the number of task vectors, {len(values.others)}, but is {agreement}"
        )
    threshold, scale = float(values.tensor["threshold"]), merged_scale(values)
    merge = partial(_merge, threshold=threshold, agreement=agreement, scale=scale)
    return Custom(merge, "consensus", (threshold, float(agreement), scale))


def _merge(
    inputs: tuple[torch.Tensor, ...], base: int | None, *, threshold: float, agreement: int, scale: float
) -> torch.Tensor:
    assert base is not None, "Should not reach."
    deltas = task_vectors(inputs, base)
    total = sum_in_order(deltas)
    needed = sum_in_order([(delta.abs() > (total - delta).abs_() * threshold).to(torch.int32) for delta in deltas])
    return (total * (needed >= agreement)).mul_(scale).add_(inputs[base])


METHODS = (
    MergeMethod(
        name="consensus",
        summary="Sum of task vectors where at least `agreement` tasks need it, by their TALL masks.",
        paper="Wang et al. 2024, Localizing Task Information for Improved Model Merging, arXiv:2405.07813",
        base=Base.REQUIRED,
        min_inputs=3,
        parameters=(
            Parameter(
                "threshold",
                Scope.TENSOR,
                default=0.4,
                low=0.0,
                search=Range(0.2, 0.6),
                doc="how much a task's change must outweigh the others'",
            ),
            Parameter("agreement", Scope.TENSOR, default=2, kind=int, low=0, doc="tasks that must need an element"),
            SCALE,
            LINES,
        ),
        plan=plan,
        mergekit=False,
    ),
)

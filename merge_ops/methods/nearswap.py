"""Moves the base towards another model the more, the closer they are."""

from __future__ import annotations

from functools import partial

from ..numerics.lazy_torch import torch
from .base.declaration import Base, MergeMethod, Parameter, ParameterValues, Range, Scope, Statistics
from .base.plans import Custom

SMALLEST = 1e-6  # lower bound of distances


def plan(values: ParameterValues, _stats: Statistics) -> Custom:
    """Out = w x + (1 - w) base, w = clamp(t / |base - x|, 0, 1), elementwise."""
    t = float(values.tensor["t"])
    return Custom(partial(_merge, t=t), "nearswap", (t,))


def _merge(inputs: tuple[torch.Tensor, ...], base: int | None, *, t: float) -> torch.Tensor:
    assert base is not None, "Should not reach."
    origin, other = inputs[base], inputs[1 - base]
    distance = (origin - other).abs_().clamp_(min=SMALLEST)
    weight = torch.div(torch.full_like(distance, t), distance).clamp_(0.0, 1.0)
    return other * weight + origin * (1.0 - weight)


METHODS = (
    MergeMethod(
        name="nearswap",
        summary="Takes the other model's elements where they are close to the base's.",
        paper="alchemonaut 2024, NearSwap, https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
        base=Base.REQUIRED,
        min_inputs=2,
        max_inputs=2,
        parameters=(
            Parameter(
                "t",
                Scope.TENSOR,
                required=True,
                search=Range(1e-5, 1e-1, log=True),
                doc="distance that is swapped whole",
            ),
        ),
        plan=plan,
    ),
)

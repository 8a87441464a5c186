"""Takes over the elements of another model that changed most, weighed by how much their row's distribution changed."""

from __future__ import annotations

from ..numerics.lazy_torch import torch
from ..numerics.reductions import CHUNK, row_sums
from .base.declaration import Base, MergeMethod, ParameterValues, Statistics
from .base.plans import Custom

FLOOR = 1e-8  # added to probabilities


def plan(_values: ParameterValues, _stats: Statistics) -> Custom:
    """Out = base + (x - base) [importance >= median + 1.5 (Q3 - Q1)].

    importance = |x - base| * KL(softmax(x) || softmax(base)) per row of the last dimension. Quantiles are elements of
    the sorted importances, over all of them; mergekit samples a million if there are more.
    """
    return Custom(_merge, "arcee_fusion")


def _merge(inputs: tuple[torch.Tensor, ...], base: int | None) -> torch.Tensor:
    assert base is not None, "Should not reach."
    origin, other = inputs[base], inputs[1 - base]
    if origin.numel() == 0:
        return origin.clone()
    divergence, threshold = importance(origin, other)
    delta = other - origin
    return origin + delta * (delta.abs() * divergence >= threshold)


def importance(base: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the divergence of every row (..., 1) and the threshold of importance, for floating tensors."""
    dtype = torch.promote_types(torch.float32, torch.promote_types(base.dtype, other.dtype))
    length = base.shape[-1] if base.dim() else 1
    old, new = (x.to(dtype).reshape(-1, length) for x in (base, other))
    step = max(1, CHUNK // length)
    starts = range(0, len(old), step)
    divergence = torch.cat([_divergences(new[start : start + step], old[start : start + step]) for start in starts])
    flat = ((new - old).abs_() * divergence[:, None]).reshape(-1)
    quartiles = [float(flat.kthvalue(int(share * (flat.numel() - 1)) + 1).values) for share in (0.25, 0.5, 0.75)]
    shape = (*base.shape[:-1], 1) if base.dim() else ()
    return divergence.reshape(shape), quartiles[1] + 1.5 * (quartiles[2] - quartiles[0])


def _divergences(other: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """Return KL(softmax(other) || softmax(base)) per row."""
    p = torch.softmax(other, dim=-1) + FLOOR
    q = torch.softmax(base, dim=-1) + FLOOR
    return row_sums((p * torch.log(p / q)).double()).to(base.dtype)


METHODS = (
    MergeMethod(
        name="arcee_fusion",
        summary="Takes over the elements that changed most, by size and by their row's distribution.",
        paper="Arcee Fusion, https://www.arcee.ai/blog/meet-mergekit-v0-1-arcee-fusion-expanded-model-support-multi-gpu-acceleration",
        base=Base.REQUIRED,
        min_inputs=2,
        max_inputs=2,
        parameters=(),
        plan=plan,
    ),
)

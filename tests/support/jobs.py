"""Jobs of every method, for the tests of executors."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any

import torch

from mergesmith.merge_ops.bank.input_statistics import InputStatistics
from mergesmith.merge_ops.executors.job import TensorJob
from mergesmith.merge_ops.executors.reference import execute
from mergesmith.merge_ops.methods import METHODS, Base, Custom, MergeMethod, Parameter, ParameterValues

NAME = "model.layers.0.mlp.up_proj.weight"


def models(shape: tuple[int, ...], count: int, dtype: torch.dtype, seed: int = 0) -> list[torch.Tensor]:
    """Return a base and its fine-tunes, with many equal differences in 16-bit dtypes."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, generator=generator) * 0.02
    others = [base + torch.randn(shape, generator=generator) * 0.002 for _ in range(count - 1)]
    return [x.to(dtype) for x in (base, *others)]


def values_for(method: MergeMethod, count: int, changed: dict[str, Any]) -> ParameterValues:
    """Return values inside the search ranges, different for every input; `changed` has precedence."""

    def value_of(parameter: Parameter, i: int | None) -> Any:
        if parameter.name in changed:
            return changed[parameter.name]
        if parameter.search is None:
            return 0.5 if parameter.required else parameter.default
        return parameter.search.low + (0.3 + 0.15 * (i or 0)) * (parameter.search.high - parameter.search.low)

    return method.values(count, value_of, base=None if method.base is Base.IGNORED else 0, depth=0.5)


def job_for(
    method: MergeMethod,
    inputs: list[torch.Tensor],
    out: torch.dtype,
    *,
    known: dict[Hashable, Any] | None = None,
    repeated: bool = True,
    **changed: Any,
) -> TensorJob:
    """Return the job of merging the inputs into a new tensor of dtype `out`; `known` is its cache."""
    known = {} if known is None else known

    def remember(indices: tuple[int, ...], key: Hashable, make: Callable[[], Any]) -> Any:
        if (indices, key) not in known:
            known[indices, key] = make()
        return known[indices, key]

    values = values_for(method, len(inputs), changed)
    plan = method.plan(values, InputStatistics(lambda: inputs, values.base))
    target = torch.full(inputs[0].shape, math.nan, dtype=out, device=inputs[0].device)
    return TensorJob(plan, tuple(inputs), target, values.base, 7, NAME, remember, repeated)


def reference(job: TensorJob) -> torch.Tensor:
    """Return what the reference executor computes for a job."""
    merged = execute(job.plan, job.inputs, base=job.base, seed=job.seed, name=job.name)
    return merged.to(job.out.dtype)


def has_kernel(job: TensorJob) -> bool:
    """Return whether executors must have a kernel for a job; a `Custom` plan may leave it to the reference."""
    return not isinstance(job.plan, Custom) or job.plan.kernel is not None


def models_of(method: MergeMethod) -> int:
    """Return three inputs, or as many as the method takes."""
    most = method.max_inputs or 3
    return min(max(3, method.min_inputs), most + (method.base is Base.OPTIONAL))


VARIANTS = [
    *((name, {}) for name in METHODS),
    *((name, {"normalize": True}) for name in ("ties", "dare_ties", "dare_linear", "breadcrumbs_ties")),
    *((name, {"rescale": True}) for name in ("ties", "breadcrumbs", "breadcrumbs_ties")),
    *((name, {"density": 1.0}) for name in ("ties", "dare_ties", "della")),
    *((name, {"density": 0.0}) for name in ("ties", "dare_ties", "della", "localize_and_stitch")),
    ("nuslerp", {"nuslerp_flatten": False}),
    ("nuslerp", {"nuslerp_flatten": False, "nuslerp_row_wise": True}),
    ("model_stock", {"filter_wise": True}),
    ("sce", {"select_topk": 1.0}),
    ("consensus", {"agreement": 1}),
]

"""Works of every method, for the tests of executors."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any

import torch

from mergesmith.merge_ops.bank.input_statistics import InputStatistics
from mergesmith.merge_ops.executors.job import TensorJob
from mergesmith.merge_ops.executors.reference import execute
from mergesmith.merge_ops.methods import METHODS, Base, MergeMethod, ParameterValues, Scope


def models(shape: tuple[int, ...], count: int, dtype: torch.dtype, seed: int = 0) -> list[torch.Tensor]:
    """A base and its fine-tunes, with many equal differences in 16-bit dtypes."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, generator=generator) * 0.02
    others = [base + torch.randn(shape, generator=generator) * 0.002 for _ in range(count - 1)]
    return [x.to(dtype) for x in (base, *others)]


def numbers_for(method: MergeMethod, count: int, changed: dict[str, Any]) -> ParameterValues:
    base = None if method.base is Base.IGNORED else 0

    def value(parameter: Any, place: int) -> Any:
        if parameter.name in changed:
            return changed[parameter.name]
        if parameter.search is None:
            return 0.5 if parameter.required else parameter.default
        return parameter.search.low + (0.3 + 0.15 * place) * (parameter.search.high - parameter.search.low)

    tensor = {p.name: value(p, 0) for p in method.parameters if p.scope is Scope.TENSOR}
    inputs = tuple(
        {
            p.name: value(p, i)
            for p in method.parameters
            if p.scope is Scope.INPUT or (p.scope is Scope.NON_BASE and i != base)
        }
        for i in range(count)
    )
    return ParameterValues(tensor, inputs, base, depth=0.5)


def work_for(
    method: MergeMethod,
    inputs: list[torch.Tensor],
    out: torch.dtype,
    *,
    known: dict[Hashable, Any] | None = None,
    repeated: bool = True,
    **changed: Any,
) -> TensorJob:
    known = {} if known is None else known

    def remember(places: tuple[int, ...], key: Hashable, make: Callable[[], Any]) -> Any:
        if (places, key) not in known:
            known[places, key] = make()
        return known[places, key]

    numbers = numbers_for(method, len(inputs), changed)
    plan = method.plan(numbers, InputStatistics(lambda: inputs, numbers.base))
    target = torch.full(inputs[0].shape, math.nan, dtype=out, device=inputs[0].device)
    return TensorJob(
        plan, tuple(inputs), target, numbers.base, 7, "model.layers.0.mlp.up_proj.weight", remember, repeated
    )


def reference(work: TensorJob) -> torch.Tensor:
    merged = execute(work.plan, work.inputs, base=work.base, seed=work.seed, name=work.name)
    return merged.to(work.out.dtype)


def models_of(method: MergeMethod) -> int:
    """Three inputs where the method takes as many."""
    most = method.max_inputs or 3
    return min(3, most + (method.base is Base.OPTIONAL))


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

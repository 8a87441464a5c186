"""Bits of gpu_acceptance.py: every kernel compared with the torch reference on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from gpu_acceptance_report import Report
from jobs import VARIANTS, has_kernel, job_for, models, models_of, reference

from mergesmith.merge_ops import METHODS
from mergesmith.merge_ops.executors.gpu import executor
from mergesmith.merge_ops.executors.gpu.launch import BLOCK

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
DEVICE_DEPENDENT = ("arcee_fusion",)  # softmax and logarithm have other last bits on each device
SPECIAL = (0.0, -0.0, 1e-40, 6e-8, 65504.0, 1e38, -1e38, math.inf, -math.inf, math.nan, 1.0, -1.0)
Trial = tuple[str, list[torch.Tensor], torch.dtype, dict[str, Any]]  # method, inputs, output dtype, parameters


def check_bits(report: Report) -> None:
    """Compare all trials in every group; on CUDA also on another stream and another device."""
    here = report.device
    groups = {"methods": _methods, "sources": _sources, "special values": _special, "large": _large}
    for name, trials in groups.items():
        _compare(report, name, trials(report.quick), [here])
    _compare(
        report,
        "unaligned",
        _sources(True),
        [here],
        place=lambda x: torch.cat([x.reshape(-1)[:1], x.reshape(-1)])[1:].view(x.shape),
    )
    if here.type == "cuda":
        with torch.cuda.stream(torch.cuda.Stream(here)):
            _compare(report, "another stream", _large(True), [here])
        others = [torch.device("cuda", i) for i in range(torch.cuda.device_count())][1:]
        if others:
            _compare(report, "another device", _large(True), others)


def _methods(quick: bool) -> Iterator[Trial]:
    for name, changed in VARIANTS[:: 6 if quick else 1]:
        for shape, stored, out in (((37, 53), BF16, BF16), ((2 * BLOCK + 3,), F32, F16), ((7, 9), F16, F32)):
            yield name, models(shape, models_of(METHODS[name]), stored), out, changed


def _sources(quick: bool) -> Iterator[Trial]:
    for count in (1, 2) if quick else (1, 2, 3, 4, 8, 16):
        for name in ("linear", "ties", "dare_ties"):
            yield name, models((3, BLOCK), count + 1, BF16, seed=count), BF16, {}


def _special(_quick: bool) -> Iterator[Trial]:
    special = torch.tensor(SPECIAL)
    grid = torch.cartesian_prod(special, special, special).T.contiguous()
    for name in ("linear", "dare_ties", "consensus"):
        yield name, [row.clone() for row in grid], BF16, {}


def _large(quick: bool) -> Iterator[Trial]:
    for name in ("linear", "ties", "dare_ties", "breadcrumbs", "sce"):
        changed = {"select_topk": 0.4} if name == "sce" else {}
        yield name, models((7, 1003) if quick else (2049, 4099), models_of(METHODS[name]), BF16, seed=3), BF16, changed


def _compare(
    report: Report,
    group: str,
    trials: Iterator[Trial],
    devices: Sequence[torch.device],
    *,
    place: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
) -> None:
    equal = count = 0
    for name, inputs, out, changed in trials:
        expected = reference(job_for(METHODS[name], inputs, out, **changed))
        for device in devices:
            job = job_for(METHODS[name], [place(x.to(device)) for x in inputs], out, **changed)
            if not has_kernel(job):
                continue
            executor.run_all([job])
            wrong = _differing(job.out.cpu(), expected)
            count += 1
            equal += not wrong or name in DEVICE_DEPENDENT
            if wrong:
                kinds = f"{inputs[0].dtype} to {out}, {tuple(inputs[0].shape)}"
                report.info(f"{group}: {name} {changed} {kinds}: {wrong} elements differ")
    report.check(equal == count, f"{group}: {equal} of {count} results have the reference's bits")


def _differing(found: torch.Tensor, expected: torch.Tensor) -> int:
    integers = {2: torch.int16, 4: torch.int32}[found.element_size()]
    different = found.view(integers) != expected.view(integers)
    return int((different & ~(found.isnan() & expected.isnan())).sum())

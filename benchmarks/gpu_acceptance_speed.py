"""Speed of gpu_acceptance.py: bytes per second of each method beside a copy, and the host's time per tensor."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from typing import Any

import torch
from gpu_acceptance_report import Report, seconds, synchronize
from jobs import job_for

from mergesmith.merge_ops import METHODS
from mergesmith.merge_ops.executors.gpu import executor
from mergesmith.merge_ops.executors.job import TensorJob

PARAMETERS_7B = 6.74e9
INPUTS = {
    "linear": 4,
    "ties": 4,
    "breadcrumbs": 4,
    "dare_linear": 4,
    "dare_ties": 4,
    "sce": 4,
    "consensus": 4,
    "nearswap": 2,
}


def measure_speed(report: Report) -> None:
    """Measure candidates whose statistics are known, as in a search."""
    layers, wide, high = (1, 64, 300) if report.quick else (8, 4096, 11008)
    shapes = [(high, wide), (wide, wide)] * layers
    elements = sum(math.prod(shape) for shape in shapes)
    groups = [_group(shape, i, report.device) for i, shape in enumerate(shapes)]
    outs = [torch.empty_like(group[0]) for group in groups]

    def copy_all() -> None:
        for out, group in zip(outs, groups, strict=True):
            out.copy_(group[0])

    copy = 4 * elements / seconds(copy_all, report.device, repeats=5)
    report.info(f"copying {elements / 1e9:.2f} G elements, tensor by tensor: {copy / 1e12:.2f} TB/s")
    for name, inputs in INPUTS.items():
        took, host = _candidate(name, [group[:inputs] for group in groups], report)
        rate = (inputs + 1) * elements * 2 / took
        report.info(
            f"{name:12s} {rate / 1e12:5.2f} TB/s, {100 * rate / copy:3.0f} % of copying; 7 B would take "
            f"{1e3 * took * PARAMETERS_7B / elements:.1f} ms; host {1e6 * host / len(groups):.0f} us per tensor"
        )


def _group(shape: tuple[int, ...], seed: int, device: torch.device) -> list[torch.Tensor]:
    generator = torch.Generator(device).manual_seed(seed)
    base = (torch.randn(shape, device=device, generator=generator) * 0.02).bfloat16()
    changes = [torch.randn(shape, device=device, generator=generator) * 0.002 for _ in range(3)]
    return [base, *((base + change).bfloat16() for change in changes)]


def _candidate(name: str, groups: list[list[torch.Tensor]], report: Report) -> tuple[float, float]:
    """Return the fastest time of a candidate in seconds, and the time until the host had launched everything."""
    known: dict[int, dict[Any, Any]] = defaultdict(dict)
    times = []
    for number in range(2 if report.quick else 8):
        changed: dict[str, Any] = {"density": 0.4 + 0.013 * number} if METHODS[name].parameter("density") else {}
        changed |= {"select_topk": 0.4} if name == "sce" else {}
        jobs: list[TensorJob] = [
            job_for(METHODS[name], group, torch.bfloat16, known=known[i], **changed) for i, group in enumerate(groups)
        ]
        synchronize(report.device)
        start = time.perf_counter()
        executor.run_all(jobs)
        host = time.perf_counter() - start
        synchronize(report.device)
        times.append((time.perf_counter() - start, host))
    return min(times)

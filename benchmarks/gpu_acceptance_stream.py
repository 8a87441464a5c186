"""Streaming of gpu_acceptance.py: sources in the host's memory give the bits of resident ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from device_checkpoint import family
from gpu_acceptance_report import Report
from merge_speed_cases import BASE, CASES, SOURCES

from mergesmith.merge_ops import LiveModel, ModelBank, Residency, parse_recipe
from mergesmith.merge_ops.bank.residency import ResidentTensors
from mergesmith.merge_ops.merging import host_streaming

DELAY = 3_000_000  # cycles that a stream is held back: a missing event then shows


def check_streaming(report: Report) -> None:
    """Merge candidates from resident and from streamed sources, with each stream delayed in turn."""
    folder = family(report.folder, "1M" if report.quick else "300M", report.device)
    names = [str(folder / name) for name in (BASE, *SOURCES)]
    cuda = report.device.type == "cuda"

    def live(**how: Any) -> LiveModel:
        return LiveModel(ModelBank(names, device=report.device, residency=Residency(keep_deltas=True, **how)))

    def recipe(method: str) -> Any:
        return parse_recipe(CASES[method].candidate(1).recipe(folder, dtype="float32", out_dtype="bfloat16"))

    resident, streamed = live(resident=True), live(pinned=cuda)
    with mock.patch.object(host_streaming, "GROUP_BYTES", 1 << 16 if report.quick else host_streaming.GROUP_BYTES):
        for method in ("linear", "ties", "dare_ties", "slerp"):
            resident.load(recipe(method))
            expected = {name: x.clone() for name, x in resident.model.state_dict().items()}
            for late in ("", "copies late", "work late") if cuda else ("",):
                with _streaming(late, everywhere=not cuda):
                    streamed.load(recipe("passthrough"))  # so that every tensor is written anew
                    streamed.load(recipe(method))
                wrong = [name for name, x in streamed.model.state_dict().items() if not torch.equal(x, expected[name])]
                report.check(not wrong, f"{method} {late}: {len(wrong)} of {len(expected)} tensors differ {wrong[:2]}")


@contextmanager
def _streaming(late: str, *, everywhere: bool) -> Iterator[None]:
    """Stream on the CPU too if `everywhere`; delay the stream of copies or that of the computation."""
    copy, mark = host_streaming._copy, host_streaming._Lane.mark

    def late_copy(*args: Any) -> None:
        torch.cuda._sleep(DELAY)
        copy(*args)

    def late_mark(lane: Any) -> Any:
        torch.cuda._sleep(DELAY)
        return mark(lane)

    streams = (
        mock.patch.object(ResidentTensors, "streams", True)
        if everywhere
        else mock.patch.object(host_streaming, "BUFFERS", 2)
    )
    with (
        streams,
        mock.patch.object(host_streaming, "_copy", late_copy if late == "copies late" else copy),
        mock.patch.object(host_streaming._Lane, "mark", late_mark if late == "work late" else mark),
    ):
        yield

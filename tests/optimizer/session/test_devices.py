"""Devices: unsupported types are rejected by name, a GPU that is not used is reported, and shares limit memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mergesmith.errors import UserError
from mergesmith.optimizer.session import devices
from mergesmith.optimizer.session.devices import DeviceWarning, limit_memory, pick_device


@pytest.mark.parametrize("name", ["mps", "xpu", "meta"])
def test_other_types_are_rejected_by_name(name: str) -> None:
    with pytest.raises(UserError, match=rf"^workers\.device: must be auto, cpu, cuda or cuda:N, but is '{name}'"):
        pick_device(name, "workers.device")


@pytest.mark.parametrize(("cuda", "expected"), [(None, "a build without CUDA"), ("13.0", "too old for CUDA 13.0")])
def test_auto_says_why_a_gpu_is_not_used(
    cuda: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "DRIVER_FILE", tmp_path)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.warns(DeviceWarning, match=expected):
        assert pick_device("auto", "workers.device").type == "cpu"
    assert pick_device("cpu", "workers.device").type == "cpu"  # asked for: no warning


def test_a_gpu_without_bfloat16_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Tesla T4")
    with pytest.warns(DeviceWarning, match=r"Tesla T4 \(sm_75\) has no bfloat16 arithmetic"):
        assert pick_device("auto", "workers.device").type == "cuda"


def test_a_share_of_a_gpu_limits_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[float, torch.device]] = []
    limit = "set_per_process_memory_fraction"
    monkeypatch.setattr(torch.cuda, limit, lambda share, device: limits.append((share, device)))
    cuda = torch.device("cuda", 0)
    for device, share in ((cuda, 0.5), (cuda, 1.0), (cuda, None), (torch.device("cpu"), 0.5)):
        limit_memory(device, share)
    assert limits == [(0.5, cuda)]

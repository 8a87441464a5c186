"""The acceptance script for GPUs passes in small sizes: under Triton's interpreter where there is no GPU."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from checkout import ROOT


@pytest.mark.no_cover  # most of the time is Triton's interpreter, which coverage's tracer makes slower
@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered")  # the interpreter computes with numpy
def test_every_section_but_speed_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    arguments = ["bits", "stream", "scoring", "--device", device, "--quick", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["gpu_acceptance.py", *arguments])
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    cudnn = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / "benchmarks" / "gpu_acceptance.py"), run_name="__main__")
    finally:
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
    assert end.value.code == 0, capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "acceptance.jsonl").read_text().splitlines()]
    assert {line["section"] for line in lines if line["kind"] == "ok"} == {"bits", "stream", "scoring"}

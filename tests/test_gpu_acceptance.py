"""The acceptance script for GPUs passes in small sizes: under Triton's interpreter where there is no GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from checkout import ROOT


def test_every_section_but_speed_passes(tmp_path: Path) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    environment = {**os.environ, "TRITON_INTERPRET": "0" if device == "cuda" else "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_acceptance.py"), "bits", "stream", "scoring"]
    command += ["--device", device, "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in (tmp_path / "acceptance.jsonl").read_text().splitlines()]
    assert {line["section"] for line in lines if line["kind"] == "ok"} == {"bits", "stream", "scoring"}

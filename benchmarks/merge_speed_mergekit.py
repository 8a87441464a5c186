"""Runs in the interpreter that has mergekit; started by merge_speed.py, which hands it a JSON job.

Merges checkpoints in memory by `merge_state_dicts` and prints one line of JSON per case: the seconds of every run, the
cores that they kept busy, and how far the result lies from the base. Nothing of this project is imported.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from mergekit.merge_methods.api import merge_state_dicts  # pyright: ignore[reportMissingImports]
from safetensors.torch import load_file

StateDict = dict[str, torch.Tensor]


def load(folder: Path) -> StateDict:
    """A checkpoint's tensors, read in: no page of them is left on disk."""
    return {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}


@torch.no_grad()
def run(case: dict[str, Any], models: dict[str, StateDict], job: dict[str, Any]) -> dict[str, Any]:
    """Merge a case up to `repeats` times, not again after `patience` seconds, with arithmetic in `dtype`."""
    repeats, patience, dtype = job["repeats"], job["patience"], getattr(torch, job["dtype"])
    inputs = {name: models[name] for name in case["models"]}
    seconds: list[float] = []
    processor = 0.0
    merged: StateDict = {}
    while not seconds or (len(seconds) < repeats and sum(seconds) < patience):
        merged.clear()
        start, used = time.perf_counter(), time.process_time()
        merged = merge_state_dicts(
            inputs,
            case["method"],
            parameters={**case["shared"], **case["own"]},
            base=case["base"],
            dtype=dtype,
            out_dtype=torch.bfloat16,
        )
        seconds.append(time.perf_counter() - start)
        processor += time.process_time() - used
    square = sum(float((merged[name].float() - x.float()).square().sum()) for name, x in models["base"].items())
    return {"name": case["method"], "seconds": seconds, "busy": processor / sum(seconds), "distance": square**0.5}


def main() -> None:
    """Read the job, run its cases."""
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    names = {"base"}.union(*(case["models"] for case in job["cases"]))
    models = {name: load(Path(job["folder"]) / name) for name in sorted(names)}
    for case in job["cases"]:
        print(json.dumps(run(case, models, job)), flush=True)


if __name__ == "__main__":
    main()

"""Runs in the interpreter that has mergekit; started by make_golden.py, which hands it one JSON job.

The job names the cases and recipes; the results go to the job's output folder. Nothing of this project is imported.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from mergekit.config import MergeConfiguration  # pyright: ignore[reportMissingImports]
from mergekit.merge import run_merge  # pyright: ignore[reportMissingImports]
from mergekit.merge_methods.api import merge_state_dicts, merge_tensors  # pyright: ignore[reportMissingImports]
from mergekit.options import MergeOptions  # pyright: ignore[reportMissingImports]
from safetensors.torch import load_file, save_file


def run_cases(cases: list[dict[str, Any]], tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Merge every case; report all refusals together."""
    results: dict[str, torch.Tensor] = {}
    refusals: list[str] = []
    for case in cases:
        parameters = dict(case["parameters"])
        for name, values in case["per_input"].items():
            parameters[name] = {i: value for i, value in enumerate(values) if value is not None}
        try:
            merged = merge_tensors(
                [tensors[name].clone() for name in case["inputs"]],
                case["method"],
                parameters=parameters,
                base_index=case["base"],
            )
        except Exception as error:
            refusals.append(f"{case['id']} {case['inputs']}: {type(error).__name__}: {error}")
            continue
        results[case["output"]] = merged.detach().contiguous().clone()
    if refusals:
        raise SystemExit("mergekit refused:\n" + "\n".join(refusals))
    return results


def run_recipe(folder: str, text: str, out: Path, result: Path) -> None:
    """Run one YAML recipe as `mergekit-yaml` does, models being folders of the working directory."""
    os.chdir(folder)
    config = MergeConfiguration.model_validate(yaml.safe_load(text))
    # The model card would ask the hub whether it knows a model called `a`.
    run_merge(config, str(out), options=MergeOptions(quiet=True, write_model_card=False), config_source=text)
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(out.glob("*.safetensors")):
        tensors |= load_file(file)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, result)


def run_recipe_per_tensor(folder: str, text: str, out: Path, result: Path) -> None:
    """Merge the checkpoints' tensors as they are on disk; for recipes with `models` and constant numbers only."""
    recipe = yaml.safe_load(text)
    own = {entry["model"]: entry.get("parameters", {}) for entry in recipe["models"]}
    models = {ref: load_file(Path(folder) / ref / "model.safetensors") for ref in own}
    names = {name for values in own.values() for name in values}
    per_input = {name: {ref: values[name] for ref, values in own.items() if name in values} for name in names}
    parameters = {**recipe.get("parameters", {}), **per_input}
    dtype = getattr(torch, recipe["dtype"])
    merged = merge_state_dicts(
        models, recipe["merge_method"], parameters=parameters, base=recipe["base_model"], dtype=dtype
    )
    save_file({name: tensor.contiguous().clone() for name, tensor in merged.items()}, result)


def main() -> None:
    """Read the job, write methods.safetensors and one file per recipe."""
    torch.set_num_threads(1)
    job = json.loads(Path(sys.argv[1]).read_text())
    out = Path(job["out"])
    save_file(run_cases(job["cases"], load_file(job["inputs"])), out / "methods.safetensors")
    # mergekit keeps opened models by their name as long as the process lives; `base` is another model elsewhere.
    processes = multiprocessing.get_context("fork")
    for recipe in job["recipes"]:
        name = recipe["name"]
        paths = (out / f"merged-{name}", out / f"{name}.safetensors")
        target = run_recipe_per_tensor if recipe["per_tensor"] else run_recipe
        process = processes.Process(target=target, args=(recipe["folder"], recipe["text"], *paths))
        process.start()
        process.join()
        if process.exitcode != 0:
            raise SystemExit(f"mergekit failed on the recipe {name}")
    versions = {name: version(name) for name in ("mergekit", "torch")}
    (out / "versions.json").write_text(json.dumps(versions))


if __name__ == "__main__":
    main()

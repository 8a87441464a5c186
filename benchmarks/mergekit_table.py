"""Write docs/reference/mergekit-comparison.md: every method on a tiny checkpoint of every family, by both programs.

    python benchmarks/mergekit_table.py --mergekit-python /path/to/python

mergekit runs in a separate interpreter, on the tensors as stored in the files (`merge_state_dicts`), in float32.
Methods with random masks run at density 1, where nothing is dropped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before huggingface_hub is imported

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import torch  # noqa: E402
import yaml  # noqa: E402
from families import FAMILIES, write_models  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from mergesmith.merge_ops import METHODS, ModelBank, materialize, recipe_from_document  # noqa: E402

ROUNDING = 2e-6  # of a tensor's largest value, in float32
THREE = [("base", {}), ("a", {"weight": 0.6, "density": 0.5}), ("b", {"weight": 0.7, "density": 0.7})]
# Per method: parameters for all models, the names of those parameters of THREE that it takes per model, and the number
# of models.
CASES: dict[str, tuple[dict[str, Any], tuple[str, ...], int]] = {
    "linear": ({}, ("weight",), 3),
    "slerp": ({"t": 0.3}, (), 2),
    "nuslerp": ({}, ("weight",), 3),
    "multislerp": ({}, ("weight",), 3),
    "karcher": ({}, (), 3),
    "task_arithmetic": ({"lambda": 0.8}, ("weight",), 3),
    "ties": ({}, ("weight", "density"), 3),
    "dare_linear": ({}, ("weight",), 3),
    "dare_ties": ({}, ("weight",), 3),
    "della": ({}, ("weight",), 3),
    "della_linear": ({}, ("weight",), 3),
    "breadcrumbs": ({}, ("weight", "density"), 3),
    "breadcrumbs_ties": ({}, ("weight", "density"), 3),
    "sce": ({"select_topk": 0.5}, (), 3),
    "ram": ({}, (), 3),
    "ramplus_tl": ({}, (), 3),
    "model_stock": ({}, (), 3),
    "nearswap": ({"t": 0.01}, (), 2),
    "arcee_fusion": ({}, (), 2),
}


NOTES = (
    "Causes of the differences in bold:",
    "",
    "* breadcrumbs, breadcrumbs_ties: two elements have equal magnitudes exactly at the cut. Which of them stays is",
    "  arbitrary: mergesmith keeps the one of lower index, mergekit the one that an unstable sort puts first.",
    "* karcher on Jamba: a tensor of four elements whose three sources are nearly parallel (cosine 0.999999).",
    "  mergekit takes the angle in float32, where its arc cosine has few digits; mergesmith uses float64.",
    "* arcee_fusion on Jamba: the importance of one element equals the threshold to five digits, and the last bits",
    "  of the softmax decide.",
    "",
    "## bfloat16 checkpoints",
    "",
    "The weights above are random float32 numbers, which have equal magnitudes only in rare cases. Real weights are",
    "mostly stored in bfloat16, where the deltas of fine-tunes take few values. `benchmarks/mergekit_bfloat16.py`",
    "compares the programs on such checkpoints. These are its figures for every seventh layer of",
    "SmolLM2-135M-Instruct and three LoRA fine-tunes of it, rounded to bfloat16, with all weights 1 and density",
    "0.5.",
    "",
    "| share of a matrix | least | mean | greatest |",
    "| --- | --- | --- | --- |",
    "| deltas that lie exactly at the TIES threshold | 0.0 % | 11.8 % | 20.1 % |",
    "| `ties`, `dtype: float32`: elements that differ from mergekit's | 0.2 % | 8.6 % | 14.8 % |",
    "| of these, elements without a delta at the threshold | 0 | 0 | 0 |",
    "| `ties`, `dtype: bfloat16`: elements that differ from mergekit's | 2.0 % | 9.3 % | 14.5 % |",
    "| `arcee_fusion`, `dtype: float32`: elements that differ from mergekit's | 0.00 % | 0.00 % | 0.01 % |",
    "| `arcee_fusion`, `dtype: bfloat16`: elements that differ from mergekit's | 6.6 % | 8.0 % | 12.8 % |",
    "| `arcee_fusion`: elements that differ from the result in float64 | 0.0 % | 0.3 % | 0.7 % |",
    "",
    "* ties: both programs keep the same number of elements. If several have the magnitude of the threshold,",
    "  mergesmith keeps those of the lowest indices, and mergekit those that an unstable sort puts first. The share",
    "  depends on the size of the deltas and on the density: in another set of fine-tunes of the same model, 4.5 to",
    "  4.8 % of a matrix's deltas lie at the threshold, and 97.6 % of the elements equal mergekit's.",
    "* arcee_fusion: a row's divergence is a sum of terms p log(p / q) with p / q near 1, which bfloat16 rounds to",
    "  steps of 0.4 to 0.8 %. mergekit's divergences in bfloat16 are mostly rounding errors, and about half of the",
    "  elements that either program takes over are taken over by one only. mergesmith computes them in float32.",
)


def document(method: str) -> dict[str, Any]:
    """Return the recipe of a method, as mergekit reads it."""
    shared, names, count = CASES[method]
    models = []
    for model, values in THREE[:count]:
        own = {name: values[name] for name in names if name in values}
        if method == "linear" and model == "base":
            own = {"weight": 0.2}
        models.append({"model": model, **({"parameters": own} if own else {})})
    base = {} if method in ("linear", "karcher") else {"base_model": "base"}
    return {"merge_method": method, **base, "models": models, "parameters": shared, "dtype": "float32"}


def run_mergekit(python: str, folder: Path, families: list[str]) -> None:
    """Merge every method and family in mergekit's interpreter, into `folder`."""
    save_file({"unused": torch.zeros(1)}, folder / "inputs.safetensors")
    recipes = [
        {
            "name": f"{family}-{method}",
            "folder": str(folder / family),
            "text": yaml.safe_dump({"base_model": None, **document(method)}),
            "per_tensor": True,
        }
        for family in families
        for method in CASES
    ]
    job = {"cases": [], "inputs": str(folder / "inputs.safetensors"), "out": str(folder), "recipes": recipes}
    (folder / "job.json").write_text(json.dumps(job))
    driver = ROOT / "tests" / "golden" / "mergekit_driver.py"
    subprocess.run([python, str(driver), str(folder / "job.json")], check=True, stderr=subprocess.DEVNULL)


def largest_difference(folder: Path, family: str, method: str) -> float:
    """Return the largest difference from mergekit relative to the tensor's largest value; inf if the names differ."""
    theirs = load_file(folder / f"{family}-{method}.safetensors")
    recipe = recipe_from_document(document(method))
    bank = ModelBank(recipe.references(), roots=(folder / family,))
    ours = dict(materialize(recipe, bank))
    if set(ours) != set(theirs):
        return float("inf")
    worst = 0.0
    for name, expected in theirs.items():
        scale = max(1e-12, float(expected.abs().max()))
        worst = max(worst, float((ours[name] - expected).abs().max()) / scale)
    return worst


def main() -> None:
    """Run everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mergekit-python", required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# Comparison with mergekit",
        "",
        "Written by `benchmarks/mergekit_table.py` with mergekit 0.1.5: a tiny random base and two fine-tunes of each",
        "family, merged with each method by both programs in float32, tensor by tensor as stored in the files.",
        "A number is the largest difference relative to the tensor's largest value.",
        f"Up to {ROUNDING:g} is rounding; larger differences are in bold. `=` is equal bit for bit.",
        "Methods with random masks run at density 1.",
        "",
        "| family | " + " | ".join(CASES) + " |",
        "| --- |" + " --- |" * len(CASES),
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for family in FAMILIES:
            write_models(folder / family, family)
        run_mergekit(arguments.mergekit_python, folder, list(FAMILIES))
        for family in FAMILIES:
            found = [largest_difference(folder, family, method) for method in CASES]
            lines.append(f"| {family} | " + " | ".join(map(shown, found)) + " |")
            print(lines[-1])
    lines += ["", *NOTES]
    (ROOT / "docs" / "reference" / "mergekit-comparison.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def shown(difference: float) -> str:
    """Return a difference as a cell of the table."""
    if difference == 0.0:
        return "="
    return f"{difference:.0e}" if difference <= ROUNDING else f"**{difference:.0e}**"


if __name__ == "__main__":
    assert set(CASES) | {"passthrough"} >= {name for name, method in METHODS.items() if method.mergekit}
    main()

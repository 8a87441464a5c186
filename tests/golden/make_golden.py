"""Write into tests/golden/data what mergekit answers for the cases of the files *_specs.py.

    python tests/golden/make_golden.py --mergekit-python /path/to/env/bin/python

mergekit is only ever run, in its own environment, by mergekit_driver.py. Running this again gives the same files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

import check  # noqa: E402
from golden import source_digest  # noqa: E402
from method_specs import input_tensors, specs  # noqa: E402
from recipe_specs import RECIPES as PLAIN_RECIPES  # noqa: E402
from recipe_specs import RecipeSpec  # noqa: E402
from tiny_models import write_model  # noqa: E402
from vocabulary_specs import VOCABULARY_RECIPES  # noqa: E402

DATA = HERE / "data"
SIZE_LIMIT = 5_000_000
RECIPES = (*PLAIN_RECIPES, *VOCABULARY_RECIPES)


def main() -> None:
    """Make the data folder anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mergekit-python", required=True, help="interpreter of an environment with mergekit 0.1.5")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    inputs = input_tensors()
    cases = method_cases(inputs)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        save_file(inputs, work / "inputs.safetensors")
        digests = {spec.name: write_sources(work / spec.folder, spec) for spec in RECIPES}
        run_mergekit(arguments.mergekit_python, work, cases)
        remove_results()
        store_methods(inputs, cases, load_file(work / "methods.safetensors"))
        store_recipes(work, digests)
        write_json(DATA / "versions.json", json.loads((work / "versions.json").read_text()))
    size = sum(file.stat().st_size for file in DATA.rglob("*") if file.is_file())
    print(f"{DATA}: {size} bytes")
    if size > SIZE_LIMIT:
        raise SystemExit(f"the data may hold {SIZE_LIMIT} bytes, not {size}")


def method_cases(inputs: dict[str, torch.Tensor]) -> list[dict[str, Any]]:
    """Number the cases and say of each its dtype and whether a magnitude cut falls on a tie."""
    cases: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    for spec in specs():
        counts[spec.method] += 1
        tensors = [inputs[name] for name in spec.inputs]
        dtype = tensors[0].dtype
        for tensor in tensors:
            dtype = torch.promote_types(dtype, tensor.dtype)
        case_id = f"{spec.method}-{counts[spec.method]:03d}"
        case: dict[str, Any] = {
            "id": case_id,
            "method": spec.method,
            "parameters": dict(spec.parameters),
            "per_input": {name: list(values) for name, values in spec.per_input.items()},
            "base": spec.base,
            "inputs": list(spec.inputs),
            "output": f"out/{case_id}",
            "dtype": str(dtype).removeprefix("torch."),
        }
        # Differences are taken in the tensors' dtype, as mergekit takes them: that is where magnitudes coincide.
        base = 0 if spec.base is None else tensors[spec.base].to(dtype)
        case["ties"] = check.has_ties(case, [_array(tensor.to(dtype) - base) for tensor in tensors])
        cases.append(case)
    print("cases per method:", dict(counts), "total", len(cases))
    return cases


def write_sources(folder: Path, spec: RecipeSpec) -> dict[str, str]:
    """Write the recipe's models where they are not yet; return their digests."""
    digests: dict[str, str] = {}
    for ref, arguments in spec.models().items():
        if not (folder / ref).exists():
            write_model(folder / ref, **arguments)
        digests[ref] = source_digest(folder / ref)
    tensors = {ref: load_file(folder / ref / "model.safetensors") for ref in spec.models()}
    for ref, densities in spec.densities.items():
        for name, density in product(tensors[ref], densities):
            magnitudes = np.abs(_array(tensors[ref][name] - tensors["base"][name]))
            if check.cut_on_tie(magnitudes, check.kept_count(density, magnitudes.size)):
                raise SystemExit(f"{spec.name}: {ref} {name} has a tie at density {density}; take another base_seed")
    return digests


def remove_results() -> None:
    """Remove what an earlier run wrote, all but the recipes' YAML."""
    for file in DATA.rglob("*"):
        if file.suffix in (".json", ".safetensors"):
            file.unlink()


def run_mergekit(python: str, work: Path, cases: list[dict[str, Any]]) -> None:
    """Run the driver once for the cases and the recipes; model references are folders of its working directory."""
    recipes = [
        {
            "name": spec.name,
            "text": (DATA / "recipes" / f"{spec.name}.yaml").read_text(),
            "folder": str(work / spec.folder),
            "per_tensor": spec.per_tensor,
        }
        for spec in RECIPES
    ]
    job = {"cases": cases, "recipes": recipes, "inputs": str(work / "inputs.safetensors"), "out": str(work)}
    (work / "job.json").write_text(json.dumps(job))
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    command = [python, str(HERE / "mergekit_driver.py"), str(work / "job.json")]
    subprocess.run(command, check=True, env=os.environ | quiet, cwd=work)


def store_methods(
    inputs: dict[str, torch.Tensor], cases: list[dict[str, Any]], outputs: dict[str, torch.Tensor]
) -> None:
    """Check the results against our own formulas, then write methods.safetensors and methods.json."""
    worst: dict[str, float] = {}
    for case in cases:
        output = outputs[case["output"]]
        if not bool(torch.isfinite(output).all()):
            raise SystemExit(f"{case['id']}: not finite")
        arrays = [_array(inputs[name]) for name in case["inputs"]]
        ours = None if case["ties"] else check.recompute(case, arrays)
        if ours is not None:
            group = f"{case['method']} {case['dtype']}"
            worst[group] = max(worst.get(group, 0.0), check.relative_difference(ours, _array(output)))
    print("largest difference to our formulas, relative to the largest value:")
    for group, difference in sorted(worst.items()):
        print(f"  {group:28s} {difference:.2e}")
    print("cases cut on a tie, skipped above:", [case["id"] for case in cases if case["ties"]])
    save_file(inputs | outputs, DATA / "methods.safetensors")
    lines = ",\n".join(json.dumps(case) for case in cases)
    (DATA / "methods.json").write_text(f"[\n{lines}\n]\n")


def store_recipes(work: Path, digests: dict[str, dict[str, str]]) -> None:
    """Write each recipe's tensors, and the index."""
    folder = DATA / "recipes"
    index: list[dict[str, Any]] = []
    for spec in RECIPES:
        tensors = split_experts(load_file(work / f"{spec.name}.safetensors"))
        vocabulary: dict[str, Any] | None = None
        if spec.own:
            origin = None if spec.origin is None else work / spec.folder / spec.origin
            vocabulary = sort_rows(work / f"merged-{spec.name}", tensors, origin)
        for name, tensor in tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise SystemExit(f"{spec.name}: {name} is not finite")
        save_file(dict(sorted(tensors.items())), folder / f"{spec.name}.safetensors")
        entry = {"name": spec.name, "family": spec.family, "models": spec.models(), "digests": digests[spec.name]}
        more = {} if vocabulary is None else {"vocabulary": vocabulary}
        index.append({**entry, "exact": spec.exact, "note": spec.note, **more})
        dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
        print(f"  {spec.name:26s} {len(tensors):3d} tensors {', '.join(dtypes)}")
    write_json(folder / "index.json", index)


def sort_rows(folder: Path, tensors: dict[str, torch.Tensor], origin: Path | None) -> dict[str, Any]:
    """Bring the rows of embeddings and head into the order of their tokens; rows of no token stay last.

    mergekit gives the tokens that a union adds other ids in every run. Returned are the tokens in that order, the ids
    of the tokens that `origin` has, and config.json's vocab_size.
    """
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    tokens = sorted(ids)
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    rest = sorted(set(range(size)) - set(ids.values()))
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in tensors:
            tensors[name] = tensors[name][[*(ids[token] for token in tokens), *rest]].contiguous()
    kept = set() if origin is None else set(Tokenizer.from_file(str(origin / "tokenizer.json")).get_vocab())
    return {"tokens": tokens, "ids": {token: ids[token] for token in tokens if token in kept}, "size": size}


def split_experts(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give Mixtral's fused experts, as mergekit-yaml writes them, the names and shapes of the source checkpoints."""
    split: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        block = name.partition(".mlp.")[0] + ".block_sparse_moe"
        if name.endswith(".mlp.gate.weight"):
            split[f"{block}.gate.weight"] = tensor
        elif name.endswith(".mlp.experts.gate_up_proj"):
            for expert, both in enumerate(tensor):
                for part, half in zip(("w1", "w3"), both.chunk(2), strict=True):
                    split[f"{block}.experts.{expert}.{part}.weight"] = half.clone()
        elif name.endswith(".mlp.experts.down_proj"):
            split |= {f"{block}.experts.{expert}.w2.weight": down.clone() for expert, down in enumerate(tensor)}
        else:
            split[name] = tensor
    return split


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.double().numpy()


if __name__ == "__main__":
    main()

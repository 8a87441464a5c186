"""Compare ties and arcee_fusion with mergekit on real bfloat16 checkpoints, element by element.

    python benchmarks/mergekit_bfloat16.py --mergekit-python /path/to/python BASE FINE_TUNE FINE_TUNE

Models are folders, or `base+adapter`; they are rounded to bfloat16. Every matrix of the layers is merged by both
programs: ties of all fine-tunes at density 0.5, in float32 and in bfloat16, and arcee_fusion of the base and the first
fine-tune in both. Results are compared after rounding to bfloat16.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from mergesmith.merge_ops import METHODS, Checkpoint  # noqa: E402
from mergesmith.merge_ops.bank.input_statistics import InputStatistics  # noqa: E402
from mergesmith.merge_ops.executors.reference import execute  # noqa: E402

DENSITY = 0.5
GIVEN = {"weight": 1.0, "density": DENSITY}
DTYPES = (torch.float32, torch.bfloat16)
METHOD_NAMES = ("ties", "arcee_fusion")


def matrices(models: Sequence[Checkpoint], every: int) -> Iterator[tuple[str, list[torch.Tensor]]]:
    """Yield name and bfloat16 tensors of the matrices of every n-th layer that differ from the base in all models."""
    for name, shape in models[0].architecture.shapes.items():
        layer = models[0].architecture.layer(name)
        if layer is None or layer % every or len(shape) != 2:
            continue
        found = [model.tensor(name).to(torch.bfloat16) for model in models]
        if not any(torch.equal(found[0], other) for other in found[1:]):
            yield name, found


def at_threshold(base: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return where a matrix's deltas have the magnitude of the last one that TIES keeps."""
    magnitudes = (other.float() - base.float()).abs()
    count = max(1, int(DENSITY * magnitudes.numel()))
    return magnitudes == magnitudes.flatten().sort(descending=True).values[count - 1]


def share(mask: torch.Tensor) -> float:
    """Return the share of elements that are True."""
    return float(mask.float().mean())


def ours(method: str, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return mergesmith's result in bfloat16."""
    declared = METHODS[method]
    values = declared.values(len(inputs), lambda p, i: GIVEN.get(p.name, p.default), base=0)
    plan = declared.plan(values, InputStatistics(lambda: tuple(inputs), 0))
    return execute(plan, tuple(inputs), base=0, seed=0, name="").to(torch.bfloat16)


def theirs(python: str, tensors: dict[str, list[torch.Tensor]], folder: Path) -> dict[str, torch.Tensor]:
    """Return mergekit's results in bfloat16 by method, dtype and name."""
    stored: dict[str, torch.Tensor] = {}
    cases = []
    for name, models in tensors.items():
        for dtype in DTYPES:
            keys = [f"{name}/{i}/{dtype}" for i in range(len(models))]
            stored |= {key: x.to(dtype).contiguous().clone() for key, x in zip(keys, models, strict=True)}
            for method in METHOD_NAMES:
                used = keys if method == "ties" else keys[:2]
                own = {
                    key: [None, *[value] * (len(used) - 1)] for key, value in (("weight", 1.0), ("density", DENSITY))
                }
                cases.append(
                    {
                        "id": name,
                        "method": method,
                        "parameters": {},
                        "base": 0,
                        "inputs": used,
                        "per_input": own if method == "ties" else {},
                        "output": f"{method} {dtype} {name}",
                    }
                )
    save_file(stored, folder / "inputs.safetensors")
    job = {"cases": cases, "inputs": str(folder / "inputs.safetensors"), "out": str(folder), "recipes": []}
    (folder / "job.json").write_text(json.dumps(job))
    driver = ROOT / "tests" / "golden" / "mergekit_driver.py"
    subprocess.run([python, str(driver), str(folder / "job.json")], check=True, stderr=subprocess.DEVNULL)
    return {name: x.to(torch.bfloat16) for name, x in load_file(folder / "methods.safetensors").items()}


def main() -> None:
    """Merge by both programs and print the shares, as the least, mean and greatest over the matrices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mergekit-python", required=True)
    parser.add_argument("--every", type=int, default=5, help="compare every n-th layer only")
    parser.add_argument("models", nargs="+", help="the base, then fine-tunes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tensors = dict(matrices([Checkpoint(model) for model in arguments.models], arguments.every))
    with tempfile.TemporaryDirectory() as folder:
        results = theirs(arguments.mergekit_python, tensors, Path(folder))
    rows: dict[str, list[float]] = {}
    for name, models in tensors.items():
        ties = [at_threshold(models[0], other) for other in models[1:]]
        rows.setdefault("deltas at the TIES threshold", []).extend(share(found) for found in ties)
        for method in METHOD_NAMES:
            found = ours(method, models if method == "ties" else models[:2])  # the same in both dtypes
            if method == "arcee_fusion":
                exact = ours(method, [x.double() for x in models[:2]])
                rows.setdefault(f"{method}: elements that differ from float64", []).append(share(found != exact))
            for dtype in DTYPES:
                title = f"{method} in {str(dtype).removeprefix('torch.')}: elements that differ from mergekit's"
                different = found != results[f"{method} {dtype} {name}"]
                rows.setdefault(title, []).append(share(different))
                if method == "ties":
                    untied = different & ~torch.stack(ties).any(0)
                    rows.setdefault(f"{title}, without a delta at the threshold", []).append(share(untied))
    for title, shares in rows.items():
        mean = sum(shares) / len(shares)
        print(f"{title}: {min(shares):.2%} to {max(shares):.2%}, mean {mean:.2%}, {len(shares)} matrices")


if __name__ == "__main__":
    main()

"""Peak memory of a merge: one group of tensors and what waits for the disk, however large the models are.

    python benchmarks/merge_memory.py [--layers 12]

Writes two sharded checkpoints of random numbers (float32, a few hundred megabytes each), merges them in a process of
its own by TIES, and reads that process's anonymous memory (RssAnon, see peak_memory.py; Linux only). Pages of
memory-mapped source files are the system's cache: they are counted apart (RssFile), and given up when memory is short.

The tensors here are small, and glibc keeps freed blocks below 32 MB in its heap; MALLOC_MMAP_THRESHOLD_ makes it hand
them back at once, as it does with the tensors of real models anyway.

Measured (two sources of 393 MB, one thread): 87 MB above the start with tensors of 12 MB; with twice the layers (761 MB
each) 66 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from peak_memory import PeakMemory
from safetensors.torch import save_file
from synthetic_checkpoint import shapes
from transformers import LlamaConfig

ROOT = Path(__file__).resolve().parent.parent
MB = 1e6
RECIPE = (
    "merge_method: ties\nbase_model: a\nmodels: [{model: b}]\nparameters: {weight: 1, density: 0.5}\ndtype: float32\n"
)
COPIES = 5  # whole tensors that are alive at once while a group of two is merged by TIES; its inputs are mapped files


def write_source(folder: Path, config: LlamaConfig, seed: int) -> int:
    """A checkpoint with one shard per layer; returns the bytes of its largest tensor."""
    folder.mkdir()
    config.save_pretrained(folder)
    wanted = shapes(config)
    generator = torch.Generator().manual_seed(seed)
    groups: dict[str, list[str]] = {}
    for name in wanted:
        layer = name.split(".")[2] if ".layers." in name else "rest"
        groups.setdefault(f"model-{layer}.safetensors", []).append(name)
    for file, names in groups.items():
        save_file({n: torch.randn(wanted[n], generator=generator) for n in names}, folder / file, {"format": "pt"})
    weight_map = {name: file for file, names in groups.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return max(shape.numel() for shape in wanted.values()) * 4


def merge_here(folder: Path) -> None:
    """Merge in this process and print, as JSON, its memory before and at the peak."""
    sys.path.insert(0, str(ROOT))
    from mergesmith.merge_ops import ModelBank, parse_recipe, write_merge

    recipe = parse_recipe(RECIPE.replace("a\n", f"{folder}/a\n", 1).replace("model: b", f"model: {folder}/b"))
    bank = ModelBank(recipe.references())
    with PeakMemory() as memory:
        start = time.perf_counter()
        write_merge(recipe, bank, folder / "out")
        seconds = time.perf_counter() - start
    print(json.dumps({"before": memory.before["RssAnon"], "seconds": seconds, **memory.peak}))


def main() -> None:
    """Write the sources, merge them in a process of its own, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--merge", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.merge is not None:
        merge_here(arguments.merge)
        return
    sys.path.insert(0, str(ROOT))
    from mergesmith.merge_ops.checkpoints.background import PENDING

    config = LlamaConfig(
        hidden_size=arguments.hidden,
        intermediate_size=3 * arguments.hidden,
        num_hidden_layers=arguments.layers,
        num_attention_heads=12,
        vocab_size=4000,
        dtype="float32",
    )
    with tempfile.TemporaryDirectory(prefix="merge-memory-") as name:
        folder = Path(name)
        largest = max(write_source(folder / model, config, seed) for seed, model in enumerate("ab"))
        total = sum(path.stat().st_size for path in (folder / "a").glob("*.safetensors"))
        command = [sys.executable, __file__, "--merge", name]
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        found = json.loads(done.stdout.splitlines()[-1])
    used = found["RssAnon"] - found["before"]
    bound = PENDING + COPIES * largest
    print(f"each source {total / MB:.0f} MB; largest tensor {largest / MB:.1f} MB; merged in {found['seconds']:.1f} s")
    print(f"before the merge        {found['before'] / MB:7.1f} MB (Python, torch, transformers)")
    print(f"peak above that         {used / MB:7.1f} MB")
    print(f"waiting for the disk    {PENDING / MB:7.1f} MB")
    print(f"one group of tensors    {COPIES * largest / MB:7.1f} MB ({COPIES} times the largest tensor)")
    print(f"mapped pages at most    {found['RssFile'] / MB:7.1f} MB (source files and libraries; not counted above)")
    print("holds" if used <= bound else "DOES NOT HOLD")
    sys.exit(0 if used <= bound else 1)


if __name__ == "__main__":
    main()

"""The checkpoints of synthetic_checkpoint.py in sizes that a CPU would take long to draw: made on a GPU, in shards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from synthetic_checkpoint import CHANGES, NORMS, SOURCES, WEIGHTS, config_of, llama, shapes
from transformers import LlamaConfig

SHARD = 1 << 31  # elements


def family(work: Path, parameters: str, device: torch.device) -> Path:
    """The folder of a base and its sources; they are made on the device, where that is quick."""
    exact = llama(4096, intermediate=11008, layers=32, vocabulary=32000)
    config = (
        exact if parameters == "7B" else config_of(round(float(parameters[:-1]) * {"M": 1e6, "B": 1e9}[parameters[-1]]))
    )
    folder = work / parameters
    for seed, name in enumerate(("base", *SOURCES)):
        if not (folder / name).is_dir():
            write(folder / name, config, tensors(config, seed, device))
    return folder


def tensors(config: LlamaConfig, seed: int, device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """A base (seed 0), or a fine-tune of it, as in synthetic_checkpoint.py, with another random generator."""
    for number, (name, shape) in enumerate(shapes(config).items()):
        x = torch.randn(shape, device=device, generator=torch.Generator(device).manual_seed(number))
        x = (1 + NORMS * x if len(shape) == 1 else WEIGHTS * x).bfloat16()
        if seed:
            own = torch.Generator(device).manual_seed(seed << 32 | number)
            x = (x + CHANGES * torch.randn(shape, device=device, generator=own)).bfloat16()
        yield name, x.cpu()


def write(folder: Path, config: LlamaConfig, named: Iterator[tuple[str, torch.Tensor]]) -> None:
    partial = folder.with_name(f"{folder.name}.partial")  # so that what stands under its name is complete
    config.save_pretrained(partial)
    places: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}

    def save() -> None:
        file = f"model-{len(set(places.values())) + 1:05d}.safetensors"
        places.update(dict.fromkeys(shard, file))
        save_file(shard, partial / file, {"format": "pt"})
        shard.clear()

    for name, tensor in named:
        shard[name] = tensor
        if sum(x.numel() for x in shard.values()) >= SHARD:
            save()
    save()
    (partial / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    partial.rename(folder)

"""Llama-shaped checkpoints of random numbers in any size, for measurements: a base and fine-tunes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig

SOURCES = ("a", "b", "c")
WEIGHTS = 0.02  # standard deviation of the base's matrices, as models are initialized
CHANGES = 0.002  # and of what a fine-tune adds
NORMS = 0.1  # standard deviation of the norms' weights around 1


def config_of(parameters: int) -> LlamaConfig:
    """The Llama whose number of parameters is nearest: 24 layers of width 1024 and 32,000 tokens at 374 M.

    Width, depth and vocabulary shrink and grow together, so that the tensors' shares of the model stay alike.
    """
    widths = range(64, 16_384, 64)
    return min((_config(width) for width in widths), key=lambda config: abs(count_parameters(config) - parameters))


def _config(width: int) -> LlamaConfig:
    return llama(
        width, intermediate=11 * width // 4, layers=max(2, round(24 * width / 1024)), vocabulary=width * 125 // 4
    )


def llama(width: int, *, intermediate: int, layers: int, vocabulary: int) -> LlamaConfig:
    """A bfloat16 Llama with heads of 64 (or one) and a head of its own: 9 tensors per layer and 3 others."""
    return LlamaConfig(
        hidden_size=width,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        vocab_size=vocabulary,
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    )


def count_parameters(config: LlamaConfig) -> int:
    """The number of parameters of a `llama`."""
    width, intermediate = config.hidden_size, config.intermediate_size
    layer = 4 * width**2 + 3 * width * intermediate + 2 * width
    return config.num_hidden_layers * layer + (2 * config.vocab_size + 1) * width


def shapes(config: LlamaConfig) -> dict[str, torch.Size]:
    """The shape of every tensor of a model, by name."""
    with torch.device("meta"):
        return {name: x.shape for name, x in AutoModelForCausalLM.from_config(config).state_dict().items()}


def write_family(folder: Path, config: LlamaConfig, sources: Sequence[str] = SOURCES) -> None:
    """Write `base` and its fine-tunes under `folder`, in bfloat16; those that stand there already are left alone.

    The base is normal with deviation 0.02 (norms: around 1); a fine-tune adds normal noise of deviation 0.002 before
    it is rounded.
    """
    for seed, name in enumerate(("base", *sources)):
        if not (folder / name).is_dir():
            _write(folder / name, config, _tensors(shapes(config), 0 if name == "base" else seed))


def _tensors(wanted: Mapping[str, torch.Size], seed: int) -> dict[str, torch.Tensor]:
    first, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in wanted.items():
        x = torch.randn(shape, generator=first)
        x = 1 + NORMS * x if len(shape) == 1 else WEIGHTS * x
        x = x.bfloat16()
        if seed:
            x = (x + CHANGES * torch.randn(shape, generator=own)).bfloat16()
        tensors[name] = x
    return tensors


def _write(folder: Path, config: LlamaConfig, tensors: dict[str, torch.Tensor]) -> None:
    partial = folder.with_name(f"{folder.name}.partial")  # so that what stands under its name is complete
    config.save_pretrained(partial)
    save_file(tensors, partial / "model.safetensors", {"format": "pt"})
    partial.rename(folder)

"""Small real checkpoints for tests, the same bits on every machine.

Transformers lays the files out, so tensor names, config and tokenizer files are the ordinary ones; their weights are
then replaced. Each tensor is filled from PCG64 seeded by (seed, checkpoint name) with exact arithmetic
on the raw words, so no library version, tensor order or sharding changes a weight.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

FAMILIES = ("llama", "qwen2", "gpt2", "mixtral")

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")
PAD_ID, BOS_ID, EOS_ID, UNK_ID = range(4)
# Ordered by usefulness: a vocabulary of 48 holds the special tokens and the first 44 of these.
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789 \n.:?=+-,!'/()<>*ABCDEFGHIJKLMNOPQRSTUVWXYZ\"#$%&;@[]_{|}^`~\\\t"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def write_model(
    folder: str | Path,
    family: str = "llama",
    *,
    seed: int = 0,
    base_seed: int | None = None,
    delta: float = 0.05,
    layers: int = 4,
    vocab: int = 48,
    hidden: int = 32,
    dtype: str = "float32",
    shards: int = 1,
    tokenizer: bool = True,
    tokens: str | None = None,
    added: Sequence[str] = (),
    config: PreTrainedConfig | None = None,
    **config_overrides: Any,
) -> Path:
    """Write one checkpoint and return its folder; `config`, if given, replaces family, sizes and overrides.

    With `tokens` its tokenizer has these characters after the four special tokens, then `added` ones; `vocab` rows
    beyond them are padding.

    With `base_seed` the model is a fine-tune: the weights of `base_seed` plus `delta` times the spread of `seed`
    (so delta 0.05 gives a cosine of about 0.9988 to the base, and delta 0.01 about 0.99995).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if config is None:
        config = model_config(family, layers=layers, vocab=vocab, hidden=hidden, dtype=dtype, **config_overrides)
    with _quiet_transformers():
        shapes = _write_skeleton(folder, config)
        if tokenizer:
            character_tokenizer(vocab, tokens, added).save_pretrained(folder)
    torch_dtype = getattr(torch, dtype)
    tensors = {
        name: torch.from_numpy(weights(name, shape, seed=seed, base_seed=base_seed, delta=delta)).to(torch_dtype)
        for name, shape in shapes.items()
    }
    _write_tensors(folder, tensors, shards)
    return folder


def write_family(folder: str | Path, family: str = "llama", *, models: int = 3, **arguments: Any) -> dict[str, Path]:
    """Write `base` and its `models` fine-tunes `a`, `b`, `c`, ... into folders of these names.

    `arguments` go to `write_model`; `seed` (default 0) is the base's, the fine-tunes count on from it.
    """
    seed = int(arguments.pop("seed", 0))
    paths = {"base": write_model(Path(folder) / "base", family, seed=seed, **arguments)}
    for number in range(1, models + 1):
        name = chr(ord("a") + number - 1)
        paths[name] = write_model(Path(folder) / name, family, seed=seed + number, base_seed=seed, **arguments)
    return paths


def model_config(
    family: str, *, layers: int = 4, vocab: int = 48, hidden: int = 32, dtype: str = "float32", **overrides: Any
) -> PreTrainedConfig:
    """Build the config of a tiny model; `overrides` use the family's config keys."""
    if family not in FAMILIES:
        raise ValueError(f"family: one of {', '.join(FAMILIES)}, not {family!r}")
    settings: dict[str, Any] = {"vocab_size": vocab, "dtype": dtype}
    settings |= {"pad_token_id": PAD_ID, "bos_token_id": BOS_ID, "eos_token_id": EOS_ID}
    if family == "gpt2":
        settings |= {"n_embd": hidden, "n_inner": 2 * hidden, "n_layer": layers, "n_head": 4, "n_positions": 256}
    else:
        settings |= {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers}
        settings |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
        settings |= {"tie_word_embeddings": family == "qwen2"}
    if family == "mixtral":
        settings |= {"num_local_experts": 4, "num_experts_per_tok": 2}
    return AutoConfig.for_model(family, **settings | overrides)


def weights(
    name: str, shape: tuple[int, ...], *, seed: int, base_seed: int | None = None, delta: float = 0.05
) -> np.ndarray:
    """Return one tensor's float32 values: centre + spread * (noise of the base + delta * noise of the fine-tune)."""
    centre, spread = _centre_and_spread(name)
    if base_seed is None:
        noise = _noise(seed, name, shape)
    else:
        noise = _noise(base_seed, name, shape) + delta * _noise(seed, name, shape)
    return (centre + spread * noise).astype(np.float32)


def character_tokenizer(
    vocab: int = 48, tokens: str | None = None, added: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """Build a tokenizer of `vocab` entries: one token per character, after the four special tokens.

    Or one of the characters in `tokens`, however many, and the special tokens `added`.
    """
    if vocab <= len(SPECIAL_TOKENS):
        raise ValueError(f"vocab: more than the {len(SPECIAL_TOKENS)} special tokens, not {vocab}")
    characters = list(ALPHABET) + [chr(0x100 + i) for i in range(max(0, vocab - len(ALPHABET)))]
    entries = [*SPECIAL_TOKENS, *(characters[: vocab - len(SPECIAL_TOKENS)] if tokens is None else tokens)]
    inner = Tokenizer(models.WordLevel({token: i for i, token in enumerate(entries)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    inner.decoder = decoders.Fuse()
    pad, bos, eos, unk = SPECIAL_TOKENS
    fast = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        unk_token=unk,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )
    fast.chat_template = CHAT_TEMPLATE
    special: Sequence[Any] = [AddedToken(token, special=True, normalized=False) for token in added]
    fast.add_tokens(special)
    return fast


def _centre_and_spread(name: str) -> tuple[float, float]:
    if name.endswith(".bias"):
        return 0.0, 0.05
    if "norm" in name or ".ln_" in name:
        return 1.0, 0.1
    return 0.0, 0.17


def _noise(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return nearly normal float64 noise (sums of four 16-bit uniforms), free of libm and of Generator's policies."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    count = int(np.prod(shape, dtype=np.int64))
    words = np.random.PCG64(int.from_bytes(digest, "big")).random_raw(count)
    pieces = sum((words >> np.uint64(shift)) & np.uint64(0xFFFF) for shift in (0, 16, 32, 48))
    spread = 2.0 * 65536.0 / 12.0**0.5
    return ((np.asarray(pieces, dtype=np.float64) - 2.0 * 65535.0) / spread).reshape(shape)


def _write_skeleton(folder: Path, config: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    """Let transformers write config and weight files; return the checkpoint's names and shapes."""
    for stale in folder.glob("model*.safetensors*"):
        stale.unlink()
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config, dtype=config.dtype)
    model.save_pretrained(folder)
    with safe_open(folder / "model.safetensors", framework="np") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _write_tensors(folder: Path, tensors: Mapping[str, torch.Tensor], shards: int) -> None:
    """Replace the skeleton's weights: one file, or exactly `shards` files of about equal size and their index."""
    if not 1 <= shards <= len(tensors):
        raise ValueError(f"shards: 1 to the number of tensors, {len(tensors)}, not {shards}")
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
        return
    (folder / "model.safetensors").unlink()
    weight_map: dict[str, str] = {}
    for number, part in enumerate(_split(tensors, shards), start=1):
        file_name = f"model-{number:05d}-of-{shards:05d}.safetensors"
        save_file(part, folder / file_name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file_name)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _split(tensors: Mapping[str, torch.Tensor], shards: int) -> Iterator[dict[str, torch.Tensor]]:
    waiting = list(tensors.items())
    for left in range(shards, 0, -1):
        share = sum(tensor.nbytes for _, tensor in waiting) / left
        part: dict[str, torch.Tensor] = {}
        # Each later shard still needs a tensor.
        while waiting and (not part or (sum(t.nbytes for t in part.values()) < share and len(waiting) >= left)):
            name, tensor = waiting.pop(0)
            part[name] = tensor
        yield part


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()

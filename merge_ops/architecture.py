"""What a model's configuration says of its checkpoint: names, shapes, ties, layers; no weight is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.core_model_loading import revert_weight_conversion
from transformers.pytorch_utils import Conv1D

from mergesmith.errors import UserError

from .quiet import quiet_transformers

LAYER = re.compile(r"(?:^|(?<=\.))\d+(?=\.)")  # a tensor's first number between dots is its layer
EMBEDDINGS = ("embed", "wte", "wpe")
HEADS = ("embed_out",)  # GPT-NeoX's head


@dataclass(frozen=True)
class Architecture:
    """The checkpoint that a configuration describes.

    `shapes` maps every checkpoint name, as `save_pretrained` writes them, to its shape. `ties` maps a name that is
    not stored to the one that it shares. `layer_key` is the configuration's key for the number of layers. `quantized`
    says that the weights are codes, not numbers. `transposed` names the weights of [in, out] shape (GPT-2's).
    `vocabulary` names the stored tensors with one row per token, the input embedding first; `vocabulary_key` is the
    configuration's key for their number of rows.
    """

    shapes: dict[str, tuple[int, ...]]
    ties: dict[str, str]
    prefix: str
    ignored: tuple[str, ...]
    num_layers: int
    layer_key: str
    vocab_size: int
    quantized: bool
    transposed: frozenset[str] = frozenset()
    vocabulary: tuple[str, ...] = ()
    vocabulary_key: str = "vocab_size"

    def canonical(self, name: str) -> str | None:
        """The name that `save_pretrained` would write for a stored name; None for a tensor that loading ignores."""
        bare, prefixed = name.removeprefix(f"{self.prefix}."), f"{self.prefix}.{name}"
        for candidate in (name, prefixed, bare):
            if candidate in self.shapes:
                return candidate
        return None if any(re.search(pattern, name) for pattern in self.ignored) else name


def architecture_of(folder: Path, reference: str, *, trust_remote_code: bool = False) -> Architecture:
    """The architecture that a checkpoint folder's config.json describes.

    Raises:
        UserError: there is no config.json, or it describes no causal language model known to transformers.
    """
    config = load_config(folder, reference, trust_remote_code=trust_remote_code)
    try:
        with quiet_transformers(), torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
            saved = revert_weight_conversion(model, model.state_dict(keep_vars=True))
            shapes = {name: tuple(t.shape) for name, t in saved.items()}
    except Exception as error:  # transformers raises many kinds here, all of them about this configuration
        raise UserError(
            f"model '{reference}': config.json describes no causal language model: {first_line(error)}"
        ) from None
    if getattr(config, "num_hidden_layers", None) is None:
        raise UserError(
            f"model '{reference}': its configuration ({config.model_type}) has no num_hidden_layers; models of several "
            "parts are not supported yet, their text models alone are"
        )
    ties = dict(getattr(model, "all_tied_weights_keys", None) or {})
    return Architecture(
        shapes={name: shape for name, shape in shapes.items() if name not in ties},
        ties=ties,
        prefix=model.base_model_prefix,
        ignored=(*(model._keys_to_ignore_on_load_unexpected or ()), r"rotary_emb\.inv_freq$", r"attn\.masked_bias$"),
        num_layers=int(config.num_hidden_layers),
        layer_key=config.attribute_map.get("num_hidden_layers", "num_hidden_layers"),
        vocab_size=int(getattr(config, "vocab_size", None) or 0),
        quantized=getattr(config, "quantization_config", None) is not None,
        transposed=frozenset(f"{name}.weight" for name, part in model.named_modules() if isinstance(part, Conv1D)),
        vocabulary=tuple(name for name in _vocabulary_names(model, saved) if name not in ties),
        vocabulary_key=config.attribute_map.get("vocab_size", "vocab_size"),
    )


def _vocabulary_names(model: Any, saved: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """The checkpoint names of the input embedding, the head and the head's bias."""
    head = model.get_output_embeddings()
    parts = (model.get_input_embeddings().weight, *(() if head is None else (head.weight, getattr(head, "bias", None))))
    names = (name for part in parts for name, tensor in saved.items() if tensor is part)
    return tuple(dict.fromkeys(names))


def load_config(folder: Path, reference: str, *, trust_remote_code: bool = False) -> Any:
    """The transformers configuration in a checkpoint folder.

    Raises:
        UserError: it is missing or not to be read.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"model '{reference}': no config.json in {folder}; a checkpoint folder has one")
    try:
        with quiet_transformers():
            return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises many kinds here, all of them about this file
        raise UserError(f"model '{reference}': config.json cannot be used: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its kind where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def layer_of(name: str) -> int | None:
    """The layer that a tensor belongs to; None for embeddings, final norm, head."""
    match = LAYER.search(name)
    return int(match.group()) if match else None


def with_layer(name: str, layer: int) -> str:
    """The name of the same tensor in another layer."""
    return LAYER.sub(str(layer), name, count=1)


def is_before_layers(name: str) -> bool:
    """Whether a tensor outside the layers comes before them (embeddings), not after (final norm, head)."""
    return any(part in name for part in EMBEDDINGS) and not any(part in name for part in HEADS)

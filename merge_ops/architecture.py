"""What a model's configuration says of its checkpoint: names, shapes, ties, layers; no weight is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.core_model_loading import revert_weight_conversion
from transformers.pytorch_utils import Conv1D

from mergesmith.errors import UserError

from .quiet import quiet_transformers
from .stored_names import StoredNames
from .weight_views import renamed_only

LAYER = re.compile(r"(?:^|(?<=\.))\d+(?=\.)")  # a tensor's first number between dots is its layer
EMBEDDINGS = ("embed", "wte", "wpe")
HEADS = ("embed_out",)  # GPT-NeoX's head
TEXT, VISION = "text_decoder", "vision_tower"  # mergekit's names for the parts of a model
# The other parts of a model of several, by what their tensors' names hold; the first that matches counts.
PARTS = (
    ("multi_modal_projector", re.compile(r"projector|\.merger\.|connector|aligner|embed_vision|embed_audio")),
    ("audio_tower", re.compile(r"(^|\.)audio")),
    (VISION, re.compile(r"(^|\.)(vision|visual|image_newline|vit\.)")),
)


@dataclass(frozen=True)
class Architecture:
    """The checkpoint that a configuration describes.

    `shapes` maps every checkpoint name, as `save_pretrained` writes them, to its shape. `ties` maps a name that is
    not stored to the one that it shares. `layer_key` is the configuration's key for the number of layers. `quantized`
    says that the weights are codes, not numbers. `names` knows what the names in a checkpoint's files stand for;
    `settings` is the text decoder's configuration with all that transformers derives. `text_key` is the configuration's
    key for the text decoder where the model has several parts. `transposed` names the weights of [in, out] shape
    (GPT-2's). `vocabulary` names the stored tensors with one row per token, the input embedding first;
    `vocabulary_key` is the text decoder's configuration's key for their number of rows.
    """

    shapes: dict[str, tuple[int, ...]]
    ties: dict[str, str]
    names: StoredNames
    num_layers: int
    layer_key: str
    vocab_size: int
    quantized: bool
    settings: Mapping[str, Any]
    text_key: str | None
    transposed: frozenset[str] = frozenset()
    vocabulary: tuple[str, ...] = ()
    vocabulary_key: str = "vocab_size"

    def canonical(self, name: str) -> str | None:
        """The name of the one canonical tensor that a stored or live name stands for; None where loading ignores it.

        A name that stands for a fused tensor is its own.
        """
        found = self.names.canonical(name)
        return None if found is None else next((whole for whole, part in found.items() if part is None), name)

    def part(self, name: str) -> str:
        """The part of the model that a tensor belongs to; models of one part have but a text decoder."""
        if self.text_key is None:
            return TEXT
        return next((part for part, pattern in PARTS if pattern.search(name)), TEXT)

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The model's parts, the text decoder first."""
        return tuple(dict.fromkeys((TEXT, *map(self.part, self.shapes))))

    def layer(self, name: str) -> int | None:
        """The layer of its part that a tensor belongs to; None outside of layers."""
        return layer_of(name) if self.part(name) in (TEXT, VISION) else None

    def depth(self, part: str) -> int:
        """How many layers a part has."""
        if part == TEXT:
            return self.num_layers
        return 1 + max((self.layer(n) or 0 for n in self.shapes if self.part(n) == part), default=0)


def architecture_of(folder: Path, reference: str, *, trust_remote_code: bool = False) -> Architecture:
    """The architecture that a checkpoint folder's config.json describes.

    Raises:
        UserError: there is no config.json, or it describes no causal language model known to transformers.
    """
    config = load_config(folder, reference, trust_remote_code=trust_remote_code)
    return _architecture(config, reference, trust_remote_code=trust_remote_code)


def architecture_from(
    settings: Mapping[str, Any], folder: Path, reference: str, *, trust_remote_code: bool = False
) -> Architecture:
    """The architecture that a config.json's content describes; see `config_from`.

    Raises:
        UserError: it describes no causal language model known to transformers.
    """
    with quiet_transformers():
        config = config_from(settings, folder, trust_remote_code=trust_remote_code)
    return _architecture(config, reference, trust_remote_code=trust_remote_code)


def config_from(settings: Mapping[str, Any], folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The transformers configuration with these settings; `folder` is where a checkpoint's own code lies, if any."""
    if not trust_remote_code or "auto_map" not in settings:
        return AutoConfig.for_model(**settings)
    kind = type(AutoConfig.from_pretrained(folder, trust_remote_code=True))
    config = kind(**{key: value for key, value in settings.items() if key != "model_type"})
    config.name_or_path = str(folder)
    return config


def _architecture(config: Any, reference: str, *, trust_remote_code: bool) -> Architecture:
    try:
        model, saved = skeleton(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises many kinds here, all of them about this configuration
        raise UserError(
            f"model '{reference}': config.json describes no causal language model: {first_line(error)}"
        ) from None
    text = config.get_text_config(decoder=True)
    if getattr(text, "num_hidden_layers", None) is None:
        raise UserError(
            f"model '{reference}': its configuration ({config.model_type}) has no num_hidden_layers; such "
            "models are not supported yet"
        )
    # transformers names ties by its modules, files have other names.
    tied: dict[str, str] = dict(getattr(model, "all_tied_weights_keys", None) or {})
    state = model.state_dict()
    found = renamed_only(model, {name: state[name] for name in (*tied, *tied.values())})
    renamed = {live: name for name, live in (found or {}).items()}
    ties = {renamed.get(one, one): renamed.get(other, other) for one, other in tied.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in saved.items() if name not in ties}
    transposed = {id(part.weight) for part in model.modules() if isinstance(part, Conv1D)}
    return Architecture(
        shapes=shapes,
        ties=ties,
        names=StoredNames(model, shapes, ties),
        num_layers=int(text.num_hidden_layers),
        layer_key=text.attribute_map.get("num_hidden_layers", "num_hidden_layers"),
        vocab_size=int(getattr(text, "vocab_size", None) or 0),
        quantized=getattr(config, "quantization_config", None) is not None,
        settings=text.to_dict(),
        text_key=text_key(config),
        transposed=frozenset(name for name, tensor in saved.items() if id(tensor) in transposed),
        vocabulary=tuple(name for name in _vocabulary_names(model, saved) if name not in ties),
        vocabulary_key=text.attribute_map.get("vocab_size", "vocab_size"),
    )


def _vocabulary_names(model: Any, saved: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """The checkpoint names of the input embedding, the head and the head's bias."""
    head = model.get_output_embeddings()
    parts = (model.get_input_embeddings().weight, *(() if head is None else (head.weight, getattr(head, "bias", None))))
    names = (name for part in parts for name, tensor in saved.items() if tensor is part)
    return tuple(dict.fromkeys(names))


def text_key(config: Any) -> str | None:
    """The key under which a configuration of several parts holds its text decoder's; None for a text model."""
    text = config.get_text_config(decoder=True)
    return next((key for key in config.sub_configs if getattr(config, key, None) is text), None)


def model_class(config: Any) -> Any:
    """The transformers class that a configuration's model is built by."""
    return AutoModelForCausalLM if text_key(config) is None else AutoModelForImageTextToText


def skeleton(config: Any, *, trust_remote_code: bool = False) -> tuple[Any, dict[str, torch.Tensor]]:
    """A configuration's model on the meta device, and its tensors by canonical name."""
    with quiet_transformers(), torch.device("meta"):
        model = model_class(config).from_config(config, trust_remote_code=trust_remote_code)
        return model, revert_weight_conversion(model, model.state_dict(keep_vars=True))


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

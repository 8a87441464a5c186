"""What a model's configuration says of its checkpoint: names, shapes, ties, layers; no weight is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.core_model_loading import revert_weight_conversion

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
    key for the text decoder where the model has several parts.
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


def architecture_of(folder: Path, reference: str) -> Architecture:
    """The architecture that a checkpoint folder's config.json describes.

    Raises:
        UserError: there is no config.json, or it describes no causal language model known to transformers.
    """
    return _architecture(load_config(folder, reference), reference)


def architecture_from(config_json: str, reference: str) -> Architecture:
    """The architecture that a config.json's text describes.

    Raises:
        UserError: it describes no causal language model known to transformers.
    """
    with quiet_transformers():
        return _architecture(AutoConfig.for_model(**json.loads(config_json)), reference)


def _architecture(config: Any, reference: str) -> Architecture:
    try:
        model, shapes = _skeleton(config)
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
    shapes = {name: shape for name, shape in shapes.items() if name not in ties}
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
    )


def text_key(config: Any) -> str | None:
    """The key under which a configuration of several parts holds its text decoder's; None for a text model."""
    text = config.get_text_config(decoder=True)
    return next((key for key in config.sub_configs if getattr(config, key, None) is text), None)


def model_class(config: Any) -> Any:
    """The transformers class that a configuration's model is built by."""
    return AutoModelForCausalLM if text_key(config) is None else AutoModelForImageTextToText


def _skeleton(config: Any) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """A configuration's model on the meta device, and its checkpoint's shapes by canonical name."""
    with quiet_transformers(), torch.device("meta"):
        model = model_class(config).from_config(config)
        return model, {n: tuple(t.shape) for n, t in revert_weight_conversion(model, model.state_dict()).items()}


@dataclass(frozen=True)
class Layout:
    """What transformers makes of a config.json: checkpoint shapes, and all settings, the derived ones too."""

    shapes: Mapping[str, tuple[int, ...]]
    settings: Mapping[str, Any]


@lru_cache(maxsize=64)
def layout_of(config_json: str) -> Layout | str:
    """The layout that a config.json's text describes, or why it describes none. Cached: a search asks it often."""
    try:
        with quiet_transformers():
            config = AutoConfig.for_model(**json.loads(config_json))
        return Layout(_skeleton(config)[1], config.get_text_config(decoder=True).to_dict())
    except Exception as error:  # transformers raises many kinds here, all of them about this configuration
        return first_line(error)


def load_config(folder: Path, reference: str) -> Any:
    """The transformers configuration in a checkpoint folder.

    Raises:
        UserError: it is missing or not to be read.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"model '{reference}': no config.json in {folder}; a checkpoint folder has one")
    try:
        with quiet_transformers():
            return AutoConfig.from_pretrained(folder, trust_remote_code=False)
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

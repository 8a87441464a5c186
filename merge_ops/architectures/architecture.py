"""What a model's configuration says of its checkpoint: names, shapes, ties, layers; no weight is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .canonical_names import StoredNames

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
    `settings` is the text decoder's configuration with all that transformers derives, as JSON has it. `text_key` is
    the configuration's key for the text decoder where the model has several parts. `transposed` names the weights of
    [in, out] shape (GPT-2's). `vocabulary` names the stored tensors with one row per token, the input embedding
    first; `vocabulary_key` is the text decoder's configuration's key for their number of rows.
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

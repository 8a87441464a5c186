"""The structure of a checkpoint, as its model's configuration describes it: names, shapes, ties and layers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .canonical_names import StoredNames

LAYER = re.compile(r"(?:^|(?<=\.))\d+(?=\.)")  # the first number between dots in a tensor's name is its layer
EMBEDDINGS = ("embed", "wte", "wpe")
HEADS = ("embed_out",)  # GPT-NeoX's head
TEXT, VISION = "text_decoder", "vision_tower"  # mergekit's names for the parts of a model
# Patterns of tensor names of the other parts of a multi-part model; the first match decides.
PARTS = (
    ("multi_modal_projector", re.compile(r"projector|\.merger\.|connector|aligner|embed_vision|embed_audio")),
    ("audio_tower", re.compile(r"(^|\.)audio")),
    (VISION, re.compile(r"(^|\.)(vision|visual|image_newline|vit\.)")),
)
ENCODER = re.compile(r"(^|\.)encoder\.")
# The same for a model with an encoder and a decoder, which is its text decoder.
ENCODER_DECODER_PARTS = (("encoder", ENCODER), ("shared", re.compile(r"^(model\.)?shared\.")))
WITH_LAYERS = (TEXT, VISION, "encoder")  # other parts are merged as a whole


@dataclass(frozen=True)
class Architecture:
    """The checkpoint that a configuration describes.

    Attributes:
        shapes: the shape of every stored tensor, by its canonical name (the one that `save_pretrained` writes).
        ties: canonical name of a tensor that is not stored -> name of the stored tensor that it shares.
        names: maps the names in a checkpoint's files to canonical names.
        num_layers: layers of the text decoder.
        layer_key: the configuration's key for the number of layers.
        vocab_size: rows of the embeddings according to the configuration.
        quantized: whether the weights are quantization codes.
        settings: the text decoder's configuration as JSON, with the values that transformers derives.
        text_key: the configuration's key for the text decoder if the model has several parts, else None.
        transposed: weights that are stored as [in, out] (in GPT-2).
        vocabulary: stored tensors with one row per token, the input embedding first.
        vocabulary_key: the key in the text decoder's configuration for their number of rows.
        class_name: the transformers class that config.json names.
        is_language_model: whether it predicts the next token, so that lm-eval can score it.
        encoder_decoder: whether it has an encoder beside the decoder, both of text or sound.
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
    class_name: str = "AutoModelForCausalLM"
    is_language_model: bool = True
    encoder_decoder: bool = False

    def canonical(self, name: str) -> str | None:
        """Return the canonical name for a stored or live name, or None if loading ignores it.

        The name of a fused tensor, which holds several canonical ones, is returned unchanged.
        """
        tensors = self.names.canonical(name)
        return None if tensors is None else next((whole for whole, part in tensors.items() if part is None), name)

    def part(self, name: str) -> str:
        """Return the part of the model that a tensor belongs to; a model of one part is a text decoder."""
        patterns = ENCODER_DECODER_PARTS if self.encoder_decoder else PARTS if self.text_key is not None else ()
        return next((part for part, pattern in patterns if pattern.search(name)), TEXT)

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The model's parts, the text decoder first."""
        return tuple(dict.fromkeys((TEXT, *map(self.part, self.shapes))))

    @cached_property
    def part_names(self) -> Mapping[str, str]:
        """Maps the names that mergekit has for the parts to those in `parts`, which are included."""
        names = {part: part for part in self.parts}
        if len(self.parts) == 1:
            names["default"] = TEXT
        if VISION in self.parts:
            names["vision_model"] = VISION
        if self.encoder_decoder:
            names["decoder"] = TEXT
        return names

    def layer(self, name: str) -> int | None:
        """Return the layer of its part that a tensor belongs to, or None if it belongs to no layer."""
        return layer_of(name) if self.part(name) in WITH_LAYERS else None

    def depth(self, part: str) -> int:
        """Return the number of layers of a part."""
        if part == TEXT:
            return self.num_layers
        return 1 + max((self.layer(n) or 0 for n in self.shapes if self.part(n) == part), default=0)


def layer_of(name: str) -> int | None:
    """Return the layer that a tensor belongs to, or None for embeddings, final norm and head."""
    match = LAYER.search(name)
    return int(match.group()) if match else None


def with_layer(name: str, layer: int) -> str:
    """Return the name of the same tensor in another layer."""
    return LAYER.sub(str(layer), name, count=1)


def is_before_layers(name: str) -> bool:
    """Whether a tensor outside the layers comes before them (embeddings), not after (final norm, head)."""
    return any(part in name for part in EMBEDDINGS) and not any(part in name for part in HEADS)

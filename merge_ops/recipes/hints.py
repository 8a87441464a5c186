"""Hints for keys in the wrong place, old spellings, and files of other kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mergesmith.errors import UserError, unknown

from ..methods import METHODS

TOP_KEYS = (
    *("merge_method", "models", "slices", "modules", "base_model", "parameters", "dtype", "out_dtype"),
    *("tokenizer_source", "tokenizer", "chat_template", "name", "mergesmith"),
)
OLD_MODEL_PREFIX = "model:"  # of tokenizer_source in old documentation of mergekit
PLACES = {
    "revision": "is part of the model's name: write model@revision",
    "lora": "is part of the model: write model+adapter, or model: {model: {path: ...}, lora: {path: ...}}",
    "layer_range": "belongs to a source, under slices: - sources:",
    "sources": "belongs to a slice, under slices:",
    "model": "belongs to an entry of models: or of sources:",
    "filter": "belongs to a value, under parameters: NAME: - {filter: ..., value: ...}",
    "value": "belongs to a parameter, under parameters: NAME: - {filter: ..., value: ...}",
    "embed_slerp": "is an old key without effect, as slerp merges embeddings like all other tensors: leave it out",
    "source": "belongs under tokenizer:",
    "tokens": "belongs under tokenizer:",
    "pad_to_multiple_of": "belongs under tokenizer:",
    "seed": "belongs under mergesmith:",
}


def unknown_key(key: object, known: tuple[str, ...]) -> str:
    """Return the message for a key that is not known at its place: where it belongs, else the nearest known key."""
    text = str(key)
    if text in PLACES:
        return f"'{text}' {PLACES[text]}"
    if any(method.parameter(text) for method in METHODS.values()):
        return f"'{text}' is a parameter: it belongs under parameters:, of the recipe, a slice or a model"
    if text in TOP_KEYS and text != "parameters":
        return f"'{text}' belongs at the top level of the recipe"
    return unknown("key", key, known)


def unknown_parameter(name: object, known: list[str]) -> str:
    """Return the message for a parameter that no method has."""
    text = str(name)
    if text in PLACES or text in TOP_KEYS:
        return unknown_key(text, ())
    return unknown("parameter", name, known)


def without_old_prefix(source: str | None) -> str | None:
    """Return a tokenizer source, which old recipes write as model:NAME."""
    return None if source is None else source.removeprefix(OLD_MODEL_PREFIX)


def check_kind(document: Mapping[Any, Any], where: str, *, wanted: str) -> None:
    """Check that a document is of the wanted kind, "recipe" or "search".

    Raises:
        UserError: it is a file of mergekit-moe or mergekit-evolve, or of the other kind.
    """
    if "experts" in document or "gate_mode" in document:
        raise UserError(
            f"{where}: this is a file for mergekit-moe, which builds a mixture of experts out of models; that is not "
            "supported, use mergekit-moe"
        )
    if "genome" in document:
        raise UserError(
            f"{where}: this is a file for mergekit-evolve; `mergesmith import {where} -o search.yaml` turns it into a "
            "search.yaml, for `mergesmith search`"
        )
    if wanted == "recipe" and "tasks" in document and "merge_method" not in document:
        raise UserError(f"{where}: this is a search.yaml, not a recipe; use `mergesmith search` or `mergesmith plan`")
    if wanted == "search" and ("merge_method" in document or "slices" in document):
        raise UserError(
            f"{where}: this is a recipe, not a search.yaml; use `mergesmith merge`, or list the file under baselines: "
            "of a search.yaml"
        )

"""Translates the token ids in a model's configuration files to the output's vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..bank.model_bank import ModelBank
from .output_vocabulary import OutputVocabulary, model_vocabulary

SUFFIXES = ("token_id", "token_index")
CONFIG, GENERATION = "config.json", "generation_config.json"


def follow_vocabulary(
    document: Mapping[str, Any],
    model: str,
    file: str,
    vocabulary: OutputVocabulary,
    bank: ModelBank,
    *,
    part: str | None = None,
) -> dict[str, Any]:
    """Return a model's configuration file with token ids of the output; `part` is the key of the part in the file.

    If the output's tokenizer starts from another model, the ids in that model's `file` are used. Other ids become the
    id of the same token in the output; if the output lacks the token, they become null, or are dropped from a list.
    Ids at the top level of a multi-part model (such as an image placeholder) must not be null: they are kept instead.
    """
    followed = dict(document)
    several = part is None and file == CONFIG and bank[model].architecture.text_key is not None
    origin_file = (_file_of(vocabulary.origin, file, bank) or {}) if vocabulary.origin != model else {}
    if part is not None:
        origin_file = origin_file.get(part, origin_file)  # the file of a text model has no parts
    named = {key: value for key, value in origin_file.items() if key.endswith(SUFFIXES)}
    tokens = {i: token for token, i in model_vocabulary(model, bank).items()}
    ids = dict(zip(vocabulary.tokens, vocabulary.ids.tolist(), strict=True))
    for key, value in document.items():
        if key.endswith(SUFFIXES) and value is not None:
            followed[key] = _translated(value, lambda i: ids.get(tokens.get(i, ""), i if several else None))
    return {**followed, **named}


def _translated(value: Any, translate: Callable[[int], int | None]) -> Any:
    if not isinstance(value, list):
        return translate(value) if isinstance(value, int) else value
    return [i for i in map(translate, value) if i is not None] or None


def output_generation_config(donor: str, vocabulary: OutputVocabulary | None, bank: ModelBank) -> dict[str, Any] | None:
    """Return the output's generation_config.json: the donor's, with the output's token ids; None if it has none."""
    document = bank[donor].generation_config
    if document is None or vocabulary is None:
        return document
    return follow_vocabulary(document, donor, GENERATION, vocabulary, bank)


def _file_of(model: str, file: str, bank: ModelBank) -> dict[str, Any] | None:
    return bank[model].config if file == CONFIG else bank[model].generation_config

"""The vocabulary of a merged model: its tokens and ids, and its tokenizer.

`union` starts from the tokenizer of the base (else of the first model), whose ids are kept. Tokens of the other models
follow: ordinary ones first, then added ones (such as special tokens), each by model in the recipe's order, then by id.
mergekit adds the same tokens, in an order that changes from run to run.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..bank.model_bank import ModelBank
from ..recipes.recipe import Recipe
from ..recipes.tokenizer_section import UNION, TokenizerSection

SAME_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


class VocabularyWarning(UserWarning):
    """Some tokens get rows or settings that the user may not expect."""


@dataclass(frozen=True, eq=False)
class OutputVocabulary:
    """The tokens and ids of the output, sorted by id, and its number of embedding rows.

    Attributes:
        section: the recipe's section that it was built from.
        models: the merged models.
        origin: the model whose tokenizer it starts from.
        tokenizer: the output's tokenizer.
        extended: whether the tokenizer differs from the origin's by added tokens or changed flags.
        tokens: the tokens, sorted by id.
        ids: their ids, int64.
        size: number of embedding rows.
        digest: SHA-256 of size and (token, id) pairs.
    """

    section: TokenizerSection
    models: tuple[str, ...]
    origin: str
    tokenizer: Any
    extended: bool
    tokens: tuple[str, ...]
    ids: np.ndarray
    size: int
    digest: str


def output_vocabulary(recipe: Recipe, bank: ModelBank) -> OutputVocabulary | None:
    """Return the vocabulary of a recipe's output, or None if the recipe does not specify one and its models agree.

    Cached in the bank by section and models.

    Raises:
        UserError: a model's tokenizer is missing or cannot be loaded.
    """
    section = recipe.vocabulary
    if section is None:
        return None
    models = replace(recipe, tokenizer_source=None, tokenizer=None).references()
    return bank.remember(("vocabulary", section, models), lambda: _build(section, models, bank))


def same_tokens(one: Recipe, other: Recipe, bank: ModelBank) -> bool:
    """Whether the outputs of two recipes have the same tokens and ids; False if a recipe specifies no vocabulary."""
    first, second = output_vocabulary(one, bank), output_vocabulary(other, bank)
    if first is None or second is None:
        return False
    return first.tokens == second.tokens and bool((first.ids == second.ids).all())


def model_vocabulary(model: str, bank: ModelBank) -> Mapping[str, int]:
    """Return the ids of a model's tokens, except those without an embedding row."""
    return bank.remember(("model vocabulary", model), lambda: _with_rows(model, bank))


def rows_of(model: str, bank: ModelBank) -> int:
    """Return the number of rows of a model's embedding."""
    architecture = bank[model].architecture
    return architecture.shapes[architecture.vocabulary[0]][0]


def tokenizer_model(recipe: Recipe) -> str:
    """Return the model whose tokenizer a recipe's output starts from."""
    if recipe.vocabulary is None:
        return recipe.donor
    return recipe.vocabulary.source_model or recipe.references()[0]


def _tokenizer(model: str, bank: ModelBank) -> Any:
    return bank.remember(("tokenizer", model), bank[model].tokenizer)


def _with_rows(model: str, bank: ModelBank) -> dict[str, int]:
    rows = rows_of(model, bank)
    return {token: i for token, i in _tokenizer(model, bank).get_vocab().items() if i < rows}


def _build(section: TokenizerSection, models: tuple[str, ...], bank: ModelBank) -> OutputVocabulary:
    origin = section.source_model or models[0]
    tokenizer = bank[origin].tokenizer()  # a copy, to which tokens are added
    before = (tokenizer.get_vocab(), tokenizer.added_tokens_decoder)
    if section.source == UNION:
        _add_others(tokenizer, models, bank)
    known = tokenizer.get_vocab()
    tokenizer.add_tokens([rule.token for rule in section.rules if rule.token not in known])
    vocabulary = tokenizer.get_vocab()
    pairs = sorted(vocabulary.items(), key=lambda pair: (pair[1], pair[0]))
    size = _padded(max(len(pairs), pairs[-1][1] + 1), section.pad_to_multiple_of)
    return OutputVocabulary(
        section=section,
        models=models,
        origin=origin,
        tokenizer=tokenizer,
        extended=before != (vocabulary, tokenizer.added_tokens_decoder),
        tokens=tuple(token for token, _ in pairs),
        ids=np.array([i for _, i in pairs], dtype=np.int64),
        size=size,
        digest=hashlib.sha256(json.dumps([size, pairs]).encode()).hexdigest(),
    )


def _add_others(tokenizer: Any, models: Sequence[str], bank: ModelBank) -> None:
    """Add the tokens of `models` to `tokenizer`."""
    known = tokenizer.get_vocab()
    ordinary: dict[str, None] = {}
    added: dict[str, Any] = {}
    clashes: dict[str, None] = {}
    for model in models:
        vocabulary = model_vocabulary(model, bank)
        for _, token in sorted(_tokenizer(model, bank).added_tokens_decoder.items()):
            if token.content not in vocabulary:
                continue
            first = added.setdefault(token.content, token)
            if any(getattr(first, flag) != getattr(token, flag) for flag in SAME_FLAGS):
                clashes[token.content] = None
        ordinary.update(dict.fromkeys(sorted(vocabulary.keys() - known.keys(), key=vocabulary.__getitem__)))
    tokenizer.add_tokens([token for token in ordinary if token not in added])
    tokenizer.add_tokens(list(added.values()))
    if clashes:
        examples = ", ".join(map(repr, list(clashes)[:6]))
        warnings.warn(
            f"tokenizer: {len(clashes)} added tokens have different settings in different models; those of the "
            f"first model are used: {examples}",
            VocabularyWarning,
            stacklevel=2,
        )


def _padded(size: int, multiple: int | None) -> int:
    return size if multiple is None else -(-size // multiple) * multiple

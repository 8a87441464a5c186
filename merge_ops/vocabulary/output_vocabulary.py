"""The vocabulary of a merged model: which token stands for which id, and the tokenizer that says so.

`union` starts from the first model's tokenizer (the base's, where there is one), whose ids stay. The tokens that only
the other models have follow: first ordinary ones, then added ones (special tokens and the like), each by model in the
recipe's order, then by id. mergekit adds the same tokens, in an order that changes from run to run.
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
    """Tokens get rows or settings that the user may not expect."""


@dataclass(frozen=True, eq=False)
class OutputVocabulary:
    """The output's tokens and ids, in the order of ids, and the number of rows of its embeddings.

    `origin` is the model whose tokenizer it starts from; `extended` says that tokens were added to that, or flags
    changed. `models` are those that are merged, `digest` is that of (token, id) pairs and `size`.
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
    """The vocabulary of a recipe's output; None where the recipe leaves it to its models, which agree.

    Built once for a bank, a section and a set of models.

    Raises:
        UserError: a model's tokenizer is missing or cannot be loaded.
    """
    section = recipe.vocabulary
    if section is None:
        return None
    models = replace(recipe, tokenizer_source=None, tokenizer=None).references()
    return bank.remember(("vocabulary", section, models), lambda: _build(section, models, bank))


def same_tokens(one: Recipe, other: Recipe, bank: ModelBank) -> bool:
    """Whether two recipes' outputs have the same tokens under the same ids; both must say what their vocabulary is."""
    first, second = output_vocabulary(one, bank), output_vocabulary(other, bank)
    if first is None or second is None:
        return False
    return first.tokens == second.tokens and bool((first.ids == second.ids).all())


def model_vocabulary(model: str, bank: ModelBank) -> Mapping[str, int]:
    """The ids of a model's tokens, without those for which it has no row."""
    return bank.remember(("model vocabulary", model), lambda: _with_rows(model, bank))


def rows_of(model: str, bank: ModelBank) -> int:
    """How many rows a model's embedding has."""
    architecture = bank[model].architecture
    return architecture.shapes[architecture.vocabulary[0]][0]


def tokenizer_model(recipe: Recipe) -> str:
    """The model whose tokenizer a recipe's output starts from."""
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
    """Add the tokens of `models` to the first one's tokenizer."""
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
        told = ", ".join(map(repr, list(clashes)[:6]))
        warnings.warn(
            f"tokenizer: {len(clashes)} added tokens have different settings in different models; the first model's "
            f"count: {told}",
            VocabularyWarning,
            stacklevel=2,
        )


def _padded(size: int, multiple: int | None) -> int:
    return size if multiple is None else -(-size // multiple) * multiple

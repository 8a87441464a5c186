"""The tokenizer of a recipe's output: a source's files unchanged, or a tokenizer with added tokens."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from ..architectures.quiet_transformers import quiet_transformers
from ..bank.model_bank import ModelBank
from ..checkpoints.tokenizer_files import set_chat_template
from ..recipes.recipe import Recipe
from .chat_template import output_template, requested_template
from .output_vocabulary import output_vocabulary, tokenizer_model


def write_tokenizer(recipe: Recipe, bank: ModelBank, folder: Path) -> None:
    """Write the output's tokenizer and chat template into `folder`.

    Raises:
        UserError: a source's tokenizer is needed and cannot be loaded.
    """
    vocabulary = output_vocabulary(recipe, bank)
    if vocabulary is not None and vocabulary.extended:
        with quiet_transformers():
            vocabulary.tokenizer.save_pretrained(folder)
    else:
        bank[tokenizer_model(recipe)].write_tokenizer(folder)
    template = requested_template(recipe, bank)
    if template is not None:
        set_chat_template(folder, template)


def output_tokenizer(recipe: Recipe, bank: ModelBank) -> Any:
    """Return the output's tokenizer, as `from_pretrained` would load it from the written folder.

    Raises:
        UserError: a source's tokenizer is missing or cannot be loaded.
    """
    tokenizer = vocabulary_tokenizer(recipe, bank)
    template = output_template(recipe, bank)
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer


def vocabulary_tokenizer(recipe: Recipe, bank: ModelBank) -> Any:
    """Return a new copy of the tokenizer of the output's vocabulary, without a chat template that the recipe asks for.

    Raises:
        UserError: a source's tokenizer is missing or cannot be loaded.
    """
    vocabulary = output_vocabulary(recipe, bank)
    return bank[tokenizer_model(recipe)].tokenizer() if vocabulary is None else copy.deepcopy(vocabulary.tokenizer)

"""The tokenizer of a recipe's output: a source's files as they are, or one with added tokens, saved by transformers."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

from .bank import ModelBank
from .chat import chat_template, folder_template
from .quiet import quiet_transformers
from .recipe import Recipe
from .tokenizer import load_tokenizer
from .vocabulary import output_vocabulary

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "chat_template.jinja",
    "chat_template.json",
)


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
        source = tokenizer_folder(recipe, bank)
        for name in TOKENIZER_FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    template = chat_template(recipe, bank)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def tokenizer_folder(recipe: Recipe, bank: ModelBank) -> Path:
    """The folder whose tokenizer a recipe's output starts from: the tokenizer's source, else the base or first model.

    Its chat template is the output's where the recipe says nothing else.
    """
    return bank[tokenizer_model(recipe)].folder


def tokenizer_model(recipe: Recipe) -> str:
    """The model whose tokenizer a recipe's output starts from."""
    named = None if recipe.vocabulary is None else recipe.vocabulary.source_model
    return named or recipe.base_model or recipe.references()[0]


def output_tokenizer(recipe: Recipe, bank: ModelBank) -> Any:
    """The output's tokenizer, as `from_pretrained` would load it from the written folder.

    Raises:
        UserError: a source's tokenizer is missing or cannot be loaded.
    """
    vocabulary = output_vocabulary(recipe, bank)
    model = tokenizer_model(recipe)
    shared = load_tokenizer(bank[model].folder, model) if vocabulary is None else vocabulary.tokenizer
    tokenizer = copy.deepcopy(shared)
    template = chat_template(recipe, bank) or folder_template(bank[model].folder)
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer

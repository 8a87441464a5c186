"""The tokenizer of a recipe's output: a source's files as they are, or one with added tokens, saved by transformers."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

from ..architectures.quiet_transformers import quiet_transformers
from ..bank.model_bank import ModelBank
from ..recipes.recipe import Recipe
from .chat_template import chat_template, model_template
from .output_vocabulary import output_vocabulary, tokenizer_model, tokenizer_of

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
    source = bank[tokenizer_model(recipe)]
    if vocabulary is not None and vocabulary.extended:
        with quiet_transformers():
            vocabulary.tokenizer.save_pretrained(folder)
    elif source.merged_from is not None:
        write_tokenizer(source.merged_from.recipe, bank, folder)
    else:
        for name in TOKENIZER_FILES:
            if (source.folder / name).is_file():
                shutil.copyfile(source.folder / name, folder / name)
    template = chat_template(recipe, bank)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def tokenizer_folder(recipe: Recipe, bank: ModelBank) -> Path:
    """The folder whose tokenizer a recipe's output starts from: the tokenizer's source, else the base or first model.

    Its chat template is the output's where the recipe says nothing else. Of an intermediate merge it is the folder that
    its own output starts from.
    """
    source = bank[tokenizer_model(recipe)]
    plan = source.merged_from
    return source.folder if plan is None else tokenizer_folder(plan.recipe, bank)


def output_tokenizer(recipe: Recipe, bank: ModelBank) -> Any:
    """The output's tokenizer, as `from_pretrained` would load it from the written folder.

    Raises:
        UserError: a source's tokenizer is missing or cannot be loaded.
    """
    vocabulary = output_vocabulary(recipe, bank)
    model = tokenizer_model(recipe)
    tokenizer = tokenizer_of(model, bank) if vocabulary is None else copy.deepcopy(vocabulary.tokenizer)
    template = chat_template(recipe, bank) or model_template(model, bank)
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer

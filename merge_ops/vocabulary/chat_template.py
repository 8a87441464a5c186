"""The chat template of a merged model."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from ..bank.model_bank import ModelBank
from ..recipes.chat_templates import AUTO_TEMPLATE, NAMED
from ..recipes.recipe import Recipe
from .output_vocabulary import tokenizer_model


def chat_template(recipe: Recipe, bank: ModelBank) -> str | None:
    """The template that the recipe asks for; None leaves that of the tokenizer."""
    if recipe.chat_template is None:
        return None
    if recipe.chat_template != AUTO_TEMPLATE:
        return NAMED.get(recipe.chat_template, recipe.chat_template)
    found = (model_template(reference, bank) for reference in recipe.references())
    counts = Counter(template for template in found if template is not None)
    return counts.most_common(1)[0][0] if counts else None


def model_template(model: str, bank: ModelBank) -> str | None:
    """The chat template of a model; that of an intermediate merge is its output's."""
    source = bank[model]
    if source.merged_from is None:
        return folder_template(source.folder)
    recipe = source.merged_from.recipe
    return chat_template(recipe, bank) or model_template(tokenizer_model(recipe), bank)


def folder_template(folder: Path) -> str | None:
    """The chat template in a checkpoint folder: in a file of its own, or in the tokenizer's configuration."""
    own, inside = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    if not inside.is_file():
        return None
    template = json.loads(inside.read_text(encoding="utf-8")).get("chat_template")
    return template if isinstance(template, str) else None

"""The chat template of a merged model."""

from __future__ import annotations

from collections import Counter

from ..bank.model_bank import ModelBank
from ..recipes.chat_templates import AUTO_TEMPLATE, NAMED
from ..recipes.recipe import Recipe
from .output_vocabulary import tokenizer_model


def requested_template(recipe: Recipe, bank: ModelBank) -> str | None:
    """Return the template that the recipe asks for, or None if it keeps the tokenizer's."""
    if recipe.chat_template is None:
        return None
    if recipe.chat_template != AUTO_TEMPLATE:
        return NAMED.get(recipe.chat_template, recipe.chat_template)
    templates = (bank[reference].chat_template for reference in recipe.references())
    counts = Counter(template for template in templates if template is not None)
    return counts.most_common(1)[0][0] if counts else None


def output_template(recipe: Recipe, bank: ModelBank) -> str | None:
    """Return the output's chat template: the one that the recipe asks for, else that of its tokenizer's model."""
    return requested_template(recipe, bank) or bank[tokenizer_model(recipe)].chat_template

"""The chat template of a run's prompts, and the models that have another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mergesmith.errors import first_few

from ...merge_ops import ModelBank, Recipe
from .recipe_checks import check_template_of


@dataclass(frozen=True)
class PromptTemplate:
    """The chat template with which all candidates are scored.

    Attributes:
        text: the template; None if prompts are no chats.
        others: model -> `text`, for models that have another template and from which a merge may take its tokenizer.
    """

    text: str | None = None
    others: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, tokenizer: Any, models: Sequence[str], bank: ModelBank) -> PromptTemplate:
        """Return the template of the run's tokenizer, compared with those of `models`."""
        text = tokenizer.chat_template
        if not isinstance(text, str):
            return cls()
        return cls(text, {model: text for model in models if bank[model].chat_template != text})

    def of_recipe(self, recipe: Recipe) -> Recipe:
        """Return a recipe from outside the run with the template, if its output would have another model's."""
        if recipe.vocabulary is not None or recipe.chat_template is not None:
            return recipe
        return replace(recipe, chat_template=self.others.get(recipe.donor))

    def check(self, recipe: Recipe, name: str, bank: ModelBank) -> None:
        """Check that a recipe from outside the run does not give another template.

        Raises:
            UserError: it does.
        """
        if self.text is not None:
            check_template_of(recipe, name, self.text, bank)

    def warnings(self) -> tuple[str, ...]:
        """Return a sentence that names the models with another template."""
        if not self.others:
            return ()
        others = first_few([f"'{model}'" for model in self.others])
        return (
            (
                f"{others} has another chat template than the run's tokenizer, which prompts use; merges that take "
                "their tokenizer from there are written with the run's template"
            ),
        )

"""The inputs of a search, and the recipe fields that all of its candidates share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..merge_ops import Recipe, Setting, Source


@dataclass(frozen=True)
class MergeIngredients:
    """The inputs and fixed settings of a search.

    Attributes:
        base: reference of the base model.
        models: references of the fine-tunes.
        out_dtype: dtype of every candidate.
        seed: seed of random masks.
        tokenizer_source: if vocabularies differ, `union` or a model, the same for every candidate; else None.
        chat_templates: model -> the chat template of the run's prompts, for models that have another one. Merges that
            take their tokenizer from such a model are written with it.
        layers: the models' number of layers; needed if the depth is divided into blocks. None before the models are
            opened: a space can then be checked, except for its steps and filters.
        tensors: the names of the base's tensors; needed for filters that are regular expressions.
    """

    base: str
    models: tuple[str, ...]
    out_dtype: str
    seed: int = 0
    tokenizer_source: str | None = None
    chat_templates: Mapping[str, str] = field(default_factory=dict)
    layers: int | None = None
    tensors: tuple[str, ...] = ()

    def recipe(
        self,
        merge_method: str,
        models: tuple[Source, ...],
        *,
        base_model: str | None,
        parameters: Mapping[str, Setting],
    ) -> Recipe:
        """Return a recipe over `models`, merged in float32, with this search's dtype, seed and tokenizer source."""
        return Recipe(
            merge_method,
            models=models,
            base_model=base_model,
            parameters=parameters,
            dtype="float32",
            out_dtype=self.out_dtype,
            seed=self.seed,
            tokenizer_source=self.tokenizer_source,
            chat_template=self.chat_templates.get(base_model or models[0].model),
        )


@dataclass(frozen=True)
class ModelGroup:
    """Models that one method merges together.

    Attributes:
        name: the option in the choice between several groups.
        base: the recipe's base_model.
        listed: the models that the recipe lists.
        searched: those of them with searched parameters; the others have weight 0.
    """

    name: str
    base: str | None
    listed: tuple[str, ...]
    searched: tuple[str, ...]

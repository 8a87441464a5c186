"""Plans of recipes, with their intermediates opened as sources first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..bank.model_bank import ModelBank
from ..planning.merge_plan import MergePlan
from ..planning.plan import plan_resolved
from ..recipes.recipe import Recipe
from ..vocabulary import output_tokenizer as tokenizers
from ..vocabulary import output_vocabulary as vocabularies
from .intermediates import with_intermediates
from .merge_tensors import materialize_plan


def plan_merge(recipe: Recipe, bank: ModelBank) -> MergePlan:
    """The plan of a recipe over models that the bank has open.

    Raises:
        UserError: the sources do not fit each other or the recipe; everything that differs is listed.
    """
    return plan_resolved(recipe, with_intermediates(recipe, bank), bank)


def output_tokenizer(recipe: Recipe, bank: ModelBank) -> Any:
    """The output's tokenizer; see `vocabulary.output_tokenizer`."""
    return tokenizers.output_tokenizer(with_intermediates(recipe, bank), bank)


def same_tokens(one: Recipe, other: Recipe, bank: ModelBank) -> bool:
    """Whether two recipes' outputs have the same tokens under the same ids."""
    return vocabularies.same_tokens(with_intermediates(one, bank), with_intermediates(other, bank), bank)


def materialize(recipe: Recipe | MergePlan, bank: ModelBank) -> Iterator[tuple[str, torch.Tensor]]:
    """Merge a recipe: yields (canonical checkpoint name, tensor in the output dtype on its home device), by name."""
    yield from materialize_plan(recipe if isinstance(recipe, MergePlan) else plan_merge(recipe, bank), bank)

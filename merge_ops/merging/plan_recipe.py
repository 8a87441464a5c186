"""Planning and merging of whole recipes: their intermediates are opened as sources first."""

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
    """Plan a recipe whose models are open in the bank.

    Raises:
        UserError: the sources are not compatible with each other or with the recipe; all differences are listed.
    """
    return plan_resolved(recipe, with_intermediates(recipe, bank), bank)


def output_tokenizer(recipe: Recipe, bank: ModelBank) -> Any:
    """Return the output's tokenizer, as `from_pretrained` would load it from the written folder.

    Raises:
        UserError: a source's tokenizer is missing or cannot be loaded.
    """
    return tokenizers.output_tokenizer(with_intermediates(recipe, bank), bank)


def same_tokens(one: Recipe, other: Recipe, bank: ModelBank) -> bool:
    """Whether two recipes' outputs have the same tokens under the same ids."""
    return vocabularies.same_tokens(with_intermediates(one, bank), with_intermediates(other, bank), bank)


def materialize(recipe: Recipe | MergePlan, bank: ModelBank) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the merged tensors of a recipe or plan by name; see `materialize_plan`.

    Raises:
        UserError: see `plan_merge`.
        MergeError: the parameter values define no tensor.
    """
    yield from materialize_plan(recipe if isinstance(recipe, MergePlan) else plan_merge(recipe, bank), bank)

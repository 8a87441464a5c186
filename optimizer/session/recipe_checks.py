"""Checks of user input against the opened sources: filters of the search space, and recipes from outside the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mergesmith.errors import Faults, UserError

from ...merge_ops import (
    ModelBank,
    Recipe,
    absolute_reference,
    check_vocabulary,
    output_template,
    same_tokens,
    unmatched_filter,
)
from ...search_spaces import SpaceConfig, filter_substrings
from ..config import RunConfig


def check_filters(space: SpaceConfig, tensor_names: Sequence[str]) -> None:
    """Check that every filter of the search space, and the rest, determine the parameters of some tensor.

    Otherwise the sampler would search dimensions without effect.

    Raises:
        UserError: some filters match no tensor, or only tensors of earlier filters, or no tensor is left for the rest.
    """
    faults = Faults("space")
    for place, filters in space.all_filters():
        left = list(tensor_names)
        for pattern in filters:
            texts = filter_substrings(pattern, tensor_names)
            if not any(text in name for name in tensor_names for text in texts):
                faults.add(place, unmatched_filter(pattern, tensor_names))
            elif not any(text in name for name in left for text in texts):
                faults.add(place, f"'{pattern}' matches only tensors that earlier filters match: put it before them")
            left = [name for name in left if not any(text in name for text in texts)]
        if not left:
            faults.add(place, "together they match all tensors, none is left for the rest; leave out the last filter")
    faults.raise_if_any()


def check_language_models(bank: ModelBank, references: Sequence[str]) -> None:
    """Check that lm-eval can score the models.

    Raises:
        UserError: some are classifiers, encoders or other models that do not predict the next token.
    """
    faults = Faults("only language models can be scored")
    for reference in references:
        architecture = bank[reference].architecture
        if not architecture.is_language_model:
            faults.add(
                f"model '{reference}'",
                f"its config.json names the class {architecture.class_name}; `mergesmith merge` merges such models "
                "by a recipe",
            )
    faults.raise_if_any()


def check_vocabulary_of(recipe: Recipe, name: str, *, candidates: Recipe, config: RunConfig, bank: ModelBank) -> None:
    """Check that a recipe from outside the run has the vocabulary with which everything is scored.

    `candidates` is a recipe with the vocabulary of the run's candidates; `name` names the checked recipe in messages.

    Raises:
        UserError: its vocabulary differs.
    """
    if recipe.vocabulary is None and candidates.tokenizer_source is None:
        check_vocabulary((config.base_model, *recipe.references()), bank)
        return
    scored = candidates if candidates.vocabulary else replace(candidates, tokenizer_source=config.base_model)
    if not same_tokens(recipe, scored, bank):
        raise UserError(
            f"{name}: its output has another vocabulary than the run's, whose tokenizer scores it; its "
            f"tokenizer_source must be that of search.yaml, {config.tokenizer_source or 'none'}"
        )


def check_template_of(recipe: Recipe, name: str, template: str, bank: ModelBank) -> None:
    """Check that a recipe from outside the run does not give its output another chat template than the prompts have.

    Raises:
        UserError: it does.
    """
    if recipe.chat_template is not None and output_template(recipe, bank) != template:
        raise UserError(
            f"{name}: its chat_template is not that of the run's tokenizer, with which it would be scored; leave it "
            "out, or set chat.apply_template to false"
        )


def with_run_names(recipe: Recipe, *, folders: Sequence[Path], bank: ModelBank) -> Recipe:
    """Return the recipe with its references to the run's models written as in the run's configuration.

    Relative references are looked up from each of `folders` in turn.
    """
    known = {absolute_reference(ref, bank.roots): ref for ref in bank.references}
    names: dict[str, str] = {}
    for reference in recipe.references():
        matches = (known.get(absolute_reference(reference, (folder,))) for folder in folders)
        match = next((match for match in matches if match is not None), None)
        if match is not None:
            names[reference] = match
    return recipe.renamed(names)

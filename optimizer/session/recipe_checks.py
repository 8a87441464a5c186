"""Checks of user input against the opened sources: filters of the search space, and recipes from outside the run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from mergesmith.errors import Faults, UserError

from ...merge_ops import ModelBank, Recipe, absolute_reference, check_vocabulary, same_tokens
from ...search_spaces import REGEX, SpaceConfig
from ..config import RunConfig


def check_filters(space: SpaceConfig, tensor_names: Collection[str]) -> None:
    """Check that every filter of the search space that is part of a name matches a tensor.

    Raises:
        UserError: some filters match none; all of them are listed.
    """
    faults = Faults("space")
    for place, filters in space.all_filters():
        for pattern in filters:
            if not pattern.startswith(REGEX) and not any(pattern in name for name in tensor_names):
                example = next(iter(tensor_names))
                faults.add(place, f"'{pattern}' is part of no tensor name; a name here is '{example}'")
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

"""The records of a planned merge, with one task per output tensor."""

from __future__ import annotations

from dataclasses import dataclass

from ..bank.residency import InputKey
from ..methods import MergeMethod, ParameterValues, get_method
from ..recipes.recipe import Recipe
from ..vocabulary.output_vocabulary import OutputVocabulary


@dataclass(frozen=True)
class TensorTask:
    """One output tensor: canonical name, inputs in order, and resolved parameter values with the index of the base.

    If `copied`, its only input is used unchanged, whatever the method.
    """

    name: str
    inputs: tuple[InputKey, ...]
    values: ParameterValues
    copied: bool = False


@dataclass(frozen=True)
class MergePlan:
    """All output tensors of a recipe, sorted by name.

    `asked` is the original recipe; `recipe` is the same with references into the bank instead of intermediates.
    `layers` gives for every output layer the layer whose settings it has, as (reference, layer) of the slice's first
    source (without slices, of the donor). `vocabulary` is the output's, None if the sources' vocabularies agree.
    """

    asked: Recipe
    recipe: Recipe
    tasks: tuple[TensorTask, ...]
    layers: tuple[tuple[str, int], ...]
    vocabulary: OutputVocabulary | None = None

    @property
    def method(self) -> MergeMethod:
        """The merge method."""
        return get_method(self.recipe.merge_method)

    @property
    def donor(self) -> str:
        """The model whose configuration and other files the output takes over."""
        return self.recipe.donor

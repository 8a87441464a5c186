"""The records of a planned merge: one task per output tensor."""

from __future__ import annotations

from dataclasses import dataclass

from ..bank.model_bank import InputKey
from ..methods import MergeMethod, ParameterValues
from ..recipes.recipe import Recipe
from ..vocabulary.output_vocabulary import OutputVocabulary


@dataclass(frozen=True)
class TensorTask:
    """One output tensor: canonical output name, inputs in order, the base's place among them, resolved parameters.

    `copied` says that its one input is taken as it is, whatever the method.
    """

    name: str
    inputs: tuple[InputKey, ...]
    numbers: ParameterValues
    copied: bool = False


@dataclass(frozen=True)
class MergePlan:
    """All output tensors of a recipe, sorted by name.

    `asked` is the recipe as it was given; `recipe` is the same with its intermediates as references into the bank.

    `donor` is the model whose configuration and other files the output takes over; `layers` says for every output
    layer whose layer its settings are: (reference, layer), of the slice's first source (without slices, the donor).
    `vocabulary` is the output's where the recipe says of it.
    """

    asked: Recipe
    recipe: Recipe
    method: MergeMethod
    tasks: tuple[TensorTask, ...]
    donor: str
    layers: tuple[tuple[str, int], ...]
    vocabulary: OutputVocabulary | None = None

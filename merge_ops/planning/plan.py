"""Plans a recipe: the inputs, base and parameter values of every output tensor. Reads no weights."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from ..architectures.architecture import TEXT
from ..bank.model_bank import ModelBank
from ..methods import ParameterValues
from ..recipes.recipe import Recipe
from ..vocabulary.embedding_rows import rebuilt_keys
from ..vocabulary.output_vocabulary import OutputVocabulary, output_vocabulary
from .compatibility import check_fit
from .layer_order import check_layout
from .merge_plan import MergePlan, TensorTask
from .resolver import Resolver
from .structure import Output, PartOutputs, PartRecipe, part_recipes, with_known_parts, without_values
from .unused_filters import warn_of_unused_filters


@dataclass(frozen=True)
class _Structure:
    """The values that plans of recipes with the same structure share; see `structure.py`."""

    outputs: tuple[tuple[Output, ...], ...]  # by part
    layers: tuple[tuple[str, int], ...]
    vocabulary: OutputVocabulary | None


def plan_resolved(asked: Recipe, recipe: Recipe, bank: ModelBank) -> MergePlan:
    """Plan a recipe whose models, intermediates included, are open in the bank; `asked` is the original recipe.

    Raises:
        UserError: the sources are not compatible with each other or with the recipe; all differences are listed.
    """
    recipe = with_known_parts(recipe, bank)
    parts = list(part_recipes(recipe, bank))
    key = ("structure", without_values(recipe).digest)
    known = bank.recall(key)
    structure = _structure(recipe, parts, bank) if known is None else known
    tasks = (task for part, outs in zip(parts, structure.outputs, strict=True) for task in _tasks(part, outs, bank))
    plan = MergePlan(
        asked=asked,
        recipe=recipe,
        tasks=tuple(sorted(tasks, key=lambda task: task.name)),
        layers=structure.layers,
        vocabulary=structure.vocabulary,
    )
    warn_of_unused_filters(recipe, parts, structure.outputs, bank)
    if known is None:
        check_layout(plan, bank)
        bank.remember(key, lambda: structure)
    return plan


def _structure(recipe: Recipe, parts: Iterable[PartRecipe], bank: ModelBank) -> _Structure:
    listed = [PartOutputs(part, bank) for part in parts]
    outputs = tuple(tuple(part_outputs.outputs()) for part_outputs in listed)
    for part_outputs, outs in zip(listed, outputs, strict=True):
        part, tensors = part_outputs.part, [(output.name, output.inputs) for output in outs]
        part_outputs.check_depth()
        check_fit(part.recipe, bank, tensors, part_outputs.slices, part=part.part)
    vocabulary = output_vocabulary(recipe, bank)
    if vocabulary is not None:  # reports faults of its rules before any tensor is read
        for output in (output for outs in outputs for output in outs):
            rebuilt_keys(vocabulary, recipe, output.inputs, bank, None)
    text = next(part_outputs for part_outputs in listed if part_outputs.part.part == TEXT)
    return _Structure(outputs, tuple(text.layers()), vocabulary)


def _tasks(part: PartRecipe, outputs: Iterable[Output], bank: ModelBank) -> Iterator[TensorTask]:
    """Yield tasks. Tensors at the same place whose names match the same filters share their parameter values."""
    if part.copied:
        yield from (TensorTask(o.name, o.inputs, ParameterValues({}, (), None), copied=True) for o in outputs)
        return
    resolver = Resolver(part, bank)
    filters = sorted(resolver.filters)
    known: dict[Hashable, ParameterValues] = {}
    for o in outputs:
        names = (o.name, *(name for _, name in o.inputs if name != o.name)) if filters else ()
        key = (o.place, tuple([f in name for name in names for f in filters]))
        values = known.get(key)
        if values is None:
            values = known[key] = resolver.values(o)
        yield TensorTask(o.name, o.inputs, values)

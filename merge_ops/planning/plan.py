"""Plans a recipe: the inputs, base and parameter values of every output tensor. Reads no weights."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from mergesmith.errors import UserError

from ..architectures.architecture import TEXT
from ..bank.model_bank import ModelBank
from ..methods import Base, Parameter, ParameterValues, get_method
from ..recipes.blocks import Number, Parameters
from ..recipes.recipe import Recipe
from ..vocabulary.embedding_rows import rebuilt_keys
from ..vocabulary.output_vocabulary import OutputVocabulary, output_vocabulary
from .compatibility import check_fit
from .layer_order import check_layout
from .merge_plan import MergePlan, TensorTask
from .structure import Output, PartOutputs, PartRecipe, part_recipes, with_known_parts, without_values


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
    resolver = _Resolver(part, bank)
    filters = sorted(resolver.filters)
    known: dict[Hashable, ParameterValues] = {}
    for o in outputs:
        names = (o.name, *(name for _, name in o.inputs if name != o.name)) if filters else ()
        key = (o.place, tuple([f in name for name in names for f in filters]))
        values = known.get(key)
        if values is None:
            values = known[key] = resolver.values(o)
        yield TensorTask(o.name, o.inputs, values)


class _Resolver:
    """Resolves the parameter values of the tensors of one part."""

    def __init__(self, part: PartRecipe, bank: ModelBank) -> None:
        self.recipe, self.method = part.recipe, get_method(part.recipe.merge_method)
        self.slices = part.slices(bank[part.donor].architecture.depth(part.part))

    @property
    def filters(self) -> set[str]:
        """The filters of all rules."""
        levels = [self.recipe.parameters]
        for run in self.slices:
            levels += [run.parameters, *(source.parameters for source in run.sources)]
        rules = (rule for level in levels for setting in level.values() for rule in setting.rules)
        return {rule.filter for rule in rules if rule.filter is not None}

    def values(self, output: Output) -> ParameterValues:
        """Return the parameter values of one output tensor.

        Raises:
            UserError: a required parameter is missing.
        """
        place, run = output.place, self.slices[output.place.slice]
        base: int | None = None
        if self.method.base is not Base.IGNORED:
            base_name = run.base_model or self.recipe.base_model
            base = next((i for i, source in enumerate(run.sources) if source.model == base_name), None)
        shared = (run.parameters, self.recipe.parameters)

        def value_of(parameter: Parameter, i: int | None) -> Number | None:
            if i is None:
                return _value(parameter, shared, output.name, place.depth)
            return _value(parameter, (run.sources[i].parameters, *shared), output.inputs[i][1], place.depth)

        return self.method.values(len(output.inputs), value_of, base=base, depth=place.model_depth)


def _value(parameter: Parameter, levels: tuple[Parameters, ...], tensor_name: str, depth: float) -> Number | None:
    """Return the value of the first level that has a matching rule, else the default."""
    for level in levels:
        setting = level.get(parameter.name)
        value = None if setting is None else setting.at(tensor_name, depth)
        if value is not None:
            return value
    if parameter.required:
        raise UserError(
            f"recipe: no rule gives {parameter.name} for '{tensor_name}': "
            "add a rule without filter as the last of the list"
        )
    return parameter.default

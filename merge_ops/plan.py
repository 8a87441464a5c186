"""From a recipe to what happens to every output tensor: its inputs, its base, its numbers. Reads no weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from mergesmith.errors import UserError, unknown

from .architecture import TEXT, Architecture, is_before_layers, with_layer
from .bank import InputKey, ModelBank
from .fit import check_fit
from .layout import check_layout
from .methods import Base, MergeMethod, Numbers, Parameter, Scope, get_method
from .recipe import Number, Parameters, Recipe, Setting, Slice, Source
from .vocabulary import OutputVocabulary, output_vocabulary
from .vocabulary_rows import rebuilt_keys


@dataclass(frozen=True)
class TensorTask:
    """One output tensor: canonical output name, inputs in order, the base's place among them, resolved parameters.

    `copied` says that its one input is taken as it is, whatever the method.
    """

    name: str
    inputs: tuple[InputKey, ...]
    numbers: Numbers
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


def plan_merge(recipe: Recipe, bank: ModelBank) -> MergePlan:
    """The plan of a recipe over models that the bank has open.

    Raises:
        UserError: the sources do not fit each other or the recipe; everything that differs is listed.
    """
    from .intermediate import with_intermediates  # which plans recipes itself

    asked, recipe = recipe, with_intermediates(recipe, bank)
    planners = list(_planners(recipe, bank))
    for planner in planners:
        check_fit(planner.recipe, bank, list(planner.tensor_inputs()), planner.slices, part=planner.part)
    vocabulary = output_vocabulary(recipe, bank)
    if vocabulary is not None:  # faults of its rules are told before any tensor is read
        for _, inputs in (pair for planner in planners for pair in planner.tensor_inputs()):
            rebuilt_keys(vocabulary, recipe, inputs, bank, None)
    text = next(planner for planner in planners if planner.part == TEXT)
    plan = MergePlan(
        asked=asked,
        recipe=recipe,
        method=text.method,
        tasks=tuple(sorted((t for planner in planners for t in planner.tasks()), key=lambda task: task.name)),
        donor=text.donor,
        layers=tuple(text.layers()),
        vocabulary=vocabulary,
    )
    check_layout(plan, bank)
    return plan


def _planners(recipe: Recipe, bank: ModelBank) -> Iterator[_Planner]:
    """One for each part of the model."""
    donor = recipe.donor
    parts, modules = bank[donor].architecture.parts, dict(recipe.modules)
    for name in modules:
        if name not in parts:
            raise UserError(f"recipe: modules: {unknown('part', name, parts)}")
    if recipe.slices and len(parts) > 1:
        raise UserError(f"recipe: slices: '{donor}' has several parts ({', '.join(parts)}); put slices under modules")
    for part in parts:
        module = modules.get(part)
        copied = bool(modules) and module is None
        if copied:
            own = replace(recipe, models=(Source(donor),), modules=())
        elif module is None:
            own = recipe
        else:
            parameters = _over(module.parameters, recipe.parameters)
            own = replace(recipe, models=module.models, slices=module.slices, parameters=parameters, modules=())
        yield _Planner(own, bank, part, donor, copied=copied)


def _over(first: Parameters, then: Parameters) -> Parameters:
    """The settings of two levels as one: where no rule of the first matches, those of the second count."""
    rules = {name: first[name].rules if name in first else () for name in (*first, *then)}
    return {name: Setting(own + (then[name].rules if name in then else ())) for name, own in rules.items()}


@dataclass(frozen=True)
class _Place:
    """Where an output tensor stands: its slice, its relative depth in it (0 outside the layers) and in the model."""

    part: Slice
    offset: int | None  # layer within the slice
    depth: float
    model_depth: float | None  # None outside the layers


class _Planner:
    """Plans one part of the model, by a recipe for this part alone."""

    def __init__(self, recipe: Recipe, bank: ModelBank, part: str, donor: str, *, copied: bool) -> None:
        self.recipe, self.bank, self.part, self.donor, self.copied = recipe, bank, part, donor, copied
        self.method = get_method(recipe.merge_method)

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        """The recipe's slices; `models:` is one slice over all layers, with the base appended when not listed."""
        if self.recipe.slices:
            return self.recipe.slices
        sources = list(self.recipe.models)
        base = self.recipe.base_model
        if (
            base is not None
            and not self.copied
            and self.method.base is not Base.IGNORED
            and all(s.model != base for s in sources)
        ):
            sources.append(Source(base))
        layers = self.architecture.depth(self.part)
        return (Slice(tuple(Source(s.model, (0, layers), s.parameters) for s in sources)),)

    @property
    def architecture(self) -> Architecture:
        return self.bank[self.donor].architecture

    def layers(self) -> Iterator[tuple[str, int]]:
        """For every output layer the layer whose settings it has."""
        for part in self.slices:
            model = part.sources[0].model if self.recipe.slices else self.donor
            for layer in range(*_layers(part)):
                yield model, layer

    def tensor_inputs(self) -> Iterator[tuple[str, tuple[InputKey, ...]]]:
        """Every output name with its inputs."""
        for name, place in self._places():
            yield name, tuple((source.model, _input_name(name, source, place)) for source in place.part.sources)

    def tasks(self) -> Iterator[TensorTask]:
        for name, place in self._places():
            inputs = tuple((s.model, _input_name(name, s, place)) for s in place.part.sources)
            if self.copied:
                yield TensorTask(name, inputs, Numbers({}, (), None), copied=True)
                continue
            yield TensorTask(name, inputs, self._numbers(name, place, inputs))

    def _places(self) -> Iterator[tuple[str, _Place]]:
        """Every output tensor and its place. Embeddings belong to the first slice, final norm and head to the last."""
        own = self.architecture
        for name in own.shapes:
            if own.part(name) == self.part and own.layer(name) is None:
                yield name, _Place(self.slices[0 if is_before_layers(name) else -1], None, 0.0, None)
        output, last = 0, sum(stop - start for start, stop in map(_layers, self.slices)) - 1
        for part in self.slices:
            template = self._layer_names[part.sources[0].model]
            start, stop = _layers(part)
            for offset in range(stop - start):
                depth = 1.0 if stop - start == 1 else offset / (stop - start - 1)
                # Layers may differ in kind (dense and expert layers): the source layer says which tensors there are.
                for name in template.get(start + offset, ()):
                    yield with_layer(name, output), _Place(part, offset, depth, output / last if last else 0.0)
                output += 1

    @cached_property
    def _layer_names(self) -> dict[str, dict[int, list[str]]]:
        """The tensor names of every layer, by the model that a slice takes its layers from."""
        found: dict[str, dict[int, list[str]]] = {}
        for model in dict.fromkeys(part.sources[0].model for part in self.slices):
            layers = found.setdefault(model, {})
            architecture = self.bank[model].architecture
            for name in architecture.shapes:
                layer = architecture.layer(name)
                if layer is not None and architecture.part(name) == self.part:
                    layers.setdefault(layer, []).append(name)
        return found

    def _numbers(self, name: str, place: _Place, inputs: tuple[InputKey, ...]) -> Numbers:
        base_name = place.part.base_model or self.recipe.base_model
        base: int | None = None
        if self.method.base is not Base.IGNORED:
            base = next((i for i, source in enumerate(place.part.sources) if source.model == base_name), None)
        above = (place.part.parameters, self.recipe.parameters)
        tensor = {
            p.name: self._value(p, above, name, place.depth) for p in self.method.parameters if p.scope is Scope.TENSOR
        }
        per_input: list[dict[str, Any]] = []
        for i, (source, (_, input_name)) in enumerate(zip(place.part.sources, inputs, strict=True)):
            levels = (source.parameters, *above)
            per_input.append(
                {
                    p.name: self._value(p, levels, input_name, place.depth)
                    for p in self.method.parameters
                    if p.scope is Scope.INPUT or (p.scope is Scope.NON_BASE and i != base)
                }
            )
        return Numbers(tensor, tuple(per_input), base, place.model_depth)

    def _value(
        self, parameter: Parameter, levels: tuple[Parameters, ...], tensor_name: str, depth: float
    ) -> Number | None:
        """The first level that has a matching rule decides; then the default."""
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


def _layers(part: Slice) -> tuple[int, int]:
    return part.sources[0].layer_range or (0, 0)


def _input_name(name: str, source: Source, place: _Place) -> str:
    if place.offset is None or source.layer_range is None:
        return name
    return with_layer(name, source.layer_range[0] + place.offset)

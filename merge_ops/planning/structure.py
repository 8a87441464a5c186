"""The structure of a merge: its output tensors and their inputs, which do not depend on parameter values.

A search plans many recipes that differ only in parameter values and share one structure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from mergesmith.errors import UserError, unknown

from ..architectures.architecture import TEXT, Architecture, is_before_layers, with_layer
from ..bank.model_bank import ModelBank
from ..bank.residency import InputKey
from ..methods import Base, get_method
from ..recipes.blocks import Module, Slice, Source, with_defaults
from ..recipes.recipe import Recipe


@dataclass(frozen=True)
class Place:
    """The slice of an output tensor, and its relative depth in the slice (0 outside the layers) and in the model."""

    slice: int
    depth: float
    model_depth: float | None  # None outside the layers


@dataclass(frozen=True)
class Output:
    """An output tensor: canonical name, inputs in order, and place."""

    name: str
    inputs: tuple[InputKey, ...]
    place: Place


@dataclass(frozen=True)
class PartRecipe:
    """A recipe reduced to one part of the model.

    `donor` is the model whose tensor names the part has. If `copied`, its tensors are used unchanged.
    """

    part: str
    recipe: Recipe
    donor: str
    copied: bool

    def slices(self, depth: int) -> tuple[Slice, ...]:
        """Return the slices; `models:` becomes one slice over all `depth` layers, with the base appended if missing."""
        if self.recipe.slices:
            return self.recipe.slices
        sources, base = list(self.recipe.models), self.recipe.base_model
        ignored = get_method(self.recipe.merge_method).base is Base.IGNORED
        if base is not None and not self.copied and not ignored and all(s.model != base for s in sources):
            sources.append(Source(base))
        return (Slice(tuple(Source(s.model, (0, depth), s.parameters) for s in sources)),)


def with_known_parts(recipe: Recipe, bank: ModelBank) -> Recipe:
    """Return the recipe with the architecture's names of its parts, and without `modules` for a model of one part.

    mergekit writes every recipe with `modules`, and calls the only part of an ordinary model `default`.

    Raises:
        UserError: the recipe names a part that the model does not have, or one part twice.
    """
    if not recipe.modules:
        return recipe
    architecture = bank[recipe.donor].architecture
    names, modules = architecture.part_names, {}
    for name, module in recipe.modules:
        if name not in names:
            raise UserError(f"recipe: modules: {unknown('part', name, names)}")
        if names[name] in modules:
            raise UserError(f"recipe: modules: '{name}' is another name of a part that is listed already")
        modules[names[name]] = module
    if len(architecture.parts) > 1:
        return replace(recipe, modules=tuple(modules.items()))
    return _of_module(recipe, next(iter(modules.values())))


def _of_module(recipe: Recipe, module: Module) -> Recipe:
    parameters = with_defaults(module.parameters, recipe.parameters)
    return replace(recipe, models=module.models, slices=module.slices, parameters=parameters, modules=())


def part_recipes(recipe: Recipe, bank: ModelBank) -> Iterator[PartRecipe]:
    """Yield the recipe of each part of the model; `recipe` names the parts as `with_known_parts` does.

    Raises:
        UserError: the recipe has slices outside `modules` for a model of several parts.
    """
    donor, modules = recipe.donor, dict(recipe.modules)
    parts = bank[donor].architecture.parts
    if recipe.slices and len(parts) > 1:
        raise UserError(f"recipe: slices: '{donor}' has several parts ({', '.join(parts)}); put slices under modules")
    for part in parts:
        module = modules.get(part)
        copied = bool(modules) and module is None
        if copied:
            reduced = replace(recipe, models=(Source(donor),), modules=())
        elif module is None:
            reduced = recipe
        else:
            reduced = _of_module(recipe, module)
        yield PartRecipe(part, reduced, donor, copied)


class PartOutputs:
    """Lists the output tensors of one part."""

    def __init__(self, part: PartRecipe, bank: ModelBank) -> None:
        self.part, self.bank = part, bank
        self.slices = part.slices(self.architecture.depth(part.part))

    @property
    def architecture(self) -> Architecture:
        """The donor's architecture."""
        return self.bank[self.part.donor].architecture

    def layers(self) -> Iterator[tuple[str, int]]:
        """Yield for every output layer the (model, layer) whose settings it has."""
        for run in self.slices:
            model = run.sources[0].model if self.part.recipe.slices else self.part.donor
            for layer in range(*_layers(run)):
                yield model, layer

    def check_depth(self) -> None:
        """Check that a part other than the text decoder keeps its depth, as config.json is changed for that one only.

        Raises:
            UserError: its slices have another number of layers than the model.
        """
        name, depth = self.part.part, self.architecture.depth(self.part.part)
        layers = sum(stop - start for start, stop in map(_layers, self.slices))
        if name != TEXT and layers != depth:
            raise UserError(
                f"recipe: modules.{name}: its slices have {layers} layers, but only the text decoder's number of "
                f"layers can change; take {depth} layers, as '{self.part.donor}' has"
            )

    def outputs(self) -> Iterator[Output]:
        """Yield all output tensors. Embeddings belong to the first slice, final norm and head to the last."""
        architecture, name_of_part = self.architecture, self.part.part
        for name in architecture.shapes:
            if architecture.part(name) == name_of_part and architecture.layer(name) is None:
                place = Place(0 if is_before_layers(name) else len(self.slices) - 1, 0.0, None)
                yield Output(name, tuple((s.model, name) for s in self.slices[place.slice].sources), place)
        output, last = 0, sum(stop - start for start, stop in map(_layers, self.slices)) - 1
        for i, run in enumerate(self.slices):
            template = self._layer_names[run.sources[0].model]
            start, stop = _layers(run)
            for offset in range(stop - start):
                depth = 1.0 if stop - start == 1 else offset / (stop - start - 1)
                place = Place(i, depth, output / last if last else 0.0)
                # Layers may differ in kind (dense and expert layers), so the source layer determines the tensors.
                for name in template.get(start + offset, ()):
                    inputs = tuple((s.model, _input_name(name, s, offset)) for s in run.sources)
                    yield Output(with_layer(name, output), inputs, place)
                output += 1

    @cached_property
    def _layer_names(self) -> dict[str, dict[int, list[str]]]:
        """Tensor names by layer, for each model that a slice takes its layers from."""
        names: dict[str, dict[int, list[str]]] = {}
        for model in dict.fromkeys(run.sources[0].model for run in self.slices):
            layers = names.setdefault(model, {})
            architecture = self.bank[model].architecture
            for name in architecture.shapes:
                layer = architecture.layer(name)
                if layer is not None and architecture.part(name) == self.part.part:
                    layers.setdefault(layer, []).append(name)
        return names


def _layers(run: Slice) -> tuple[int, int]:
    return run.sources[0].layer_range or (0, 0)


def _input_name(name: str, source: Source, offset: int) -> str:
    return name if source.layer_range is None else with_layer(name, source.layer_range[0] + offset)


def without_values(recipe: Recipe) -> Recipe:
    """Return the recipe without parameters and seed; recipes for which this is equal share their structure."""

    def sources(old: tuple[Source, ...]) -> tuple[Source, ...]:
        return tuple(Source(source.model, source.layer_range) for source in old)

    def slices(old: tuple[Slice, ...]) -> tuple[Slice, ...]:
        return tuple(Slice(sources(run.sources), run.base_model) for run in old)

    def bare(module: Module) -> Module:
        return Module(sources(module.models), slices(module.slices))

    return replace(
        recipe,
        models=sources(recipe.models),
        slices=slices(recipe.slices),
        modules=tuple((name, bare(module)) for name, module in recipe.modules),
        parameters={},
        seed=0,
    )

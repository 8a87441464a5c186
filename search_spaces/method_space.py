"""The dimensions of one merge method, and how they determine its recipes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from ..merge_ops import MergeMethod, Parameter, Recipe, Scope, Setting
from .config import ParameterConfig
from .dimensions import Choice, Dimension, Float, Params, Value
from .ingredients import ModelGroup
from .parameter_slot import REST, OutsideSpaceError, ParameterSlot

SCALE = (0.0, 2.0)  # lambda's range if the weights are normalized, which leaves the scale to lambda


class MethodSpace:
    """The part of a search space that belongs to one merge method."""

    def __init__(
        self,
        method: MergeMethod,
        settings: Mapping[str, ParameterConfig],
        *,
        knots: int,
        filters: tuple[str, ...],
        groups: tuple[ModelGroup, ...],
    ) -> None:
        self.method, self.settings, self.knots, self.filters, self.groups = method, settings, knots, filters, groups
        self.group_choice = Choice(f"{method.name}.models", tuple(g.name for g in groups)) if len(groups) > 1 else None

    @cached_property
    def slots(self) -> tuple[ParameterSlot, ...]:
        """All parameter values of the method's recipes, searched or fixed."""
        models = dict.fromkeys(self._label(group, model) for group in self.groups for model in group.searched)
        return tuple(
            self._slot(parameter, model)
            for parameter in self.method.parameters
            if parameter.effect
            for model in ((None,) if parameter.scope is Scope.TENSOR else models)
        )

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The searched dimensions in a fixed order; the choice of models, if any, first."""
        head = () if self.group_choice is None else (self.group_choice,)
        return (*head, *(d for slot in self.slots for knots in slot.dimensions.values() for d in knots))

    def group(self, params: Params) -> ModelGroup:
        """Return the group of models that a point merges."""
        if self.group_choice is None:
            return self.groups[0]
        return next(group for group in self.groups if group.name == params[self.group_choice.name])

    def shared_settings(self, params: Params) -> dict[str, Setting]:
        """Return the settings shared by all models of a recipe, defaults included.

        Parameters that mergekit lacks are left out at their neutral default, so that mergekit can read the recipe.
        """
        return {s.parameter.name: s.setting(params) for s in self.slots if s.model is None and not s.is_idle_extra}

    def source_settings(self, model: str, params: Params) -> dict[str, Setting]:
        """Return the settings of one model; a model that is listed but not searched has weight 0."""
        group = self.group(params)
        label = self._label(group, model) if model in group.searched else None
        searched = {s.parameter.name: s.setting(params) for s in self.slots if label is not None and s.model == label}
        inputs = [p for p in self.method.parameters if p.scope is Scope.INPUT]
        return searched or {p.name: Setting.constant(0.0) for p in inputs}

    def read(self, recipe: Recipe) -> dict[str, Value]:
        """Return the point of a recipe of this method.

        Raises:
            OutsideSpaceError: the recipe is not in the space.
        """
        group = self._group_of(recipe)
        params: dict[str, Value] = {}
        if self.group_choice is not None:
            params[self.group_choice.name] = group.name
        sources = {source.model: source.parameters for source in recipe.models}
        labels = {self._label(group, model): model for model in group.searched}
        for slot in self.slots:
            name = slot.parameter.name
            of_model = {} if slot.model is None else sources.get(labels[slot.model], {})
            params.update(slot.read(of_model.get(name, recipe.parameters.get(name))))
        for model in group.listed:
            if model not in group.searched:
                self._check_idle(model, {**recipe.parameters, **sources.get(model, {})})
        return params

    def _label(self, group: ModelGroup, model: str) -> str:
        """Return the label of a model's dimensions: its reference, or its position if the point chooses the models."""
        return model if self.group_choice is None else str(group.searched.index(model) + 1)

    def _check_idle(self, model: str, settings: Mapping[str, Setting]) -> None:
        for parameter in (p for p in self.method.parameters if p.scope is Scope.INPUT):
            if settings.get(parameter.name) != Setting.constant(0.0):
                raise OutsideSpaceError(f"{parameter.name} of {model} is not 0")

    def _group_of(self, recipe: Recipe) -> ModelGroup:
        named = tuple(source.model for source in recipe.models)
        for group in self.groups:
            # A base without parameters may be left out of the list, or be anywhere in it.
            listed = tuple(m for m in named if m != group.base) == tuple(m for m in group.listed if m != group.base)
            if listed and recipe.base_model == group.base and (group.base in named or group.base not in group.listed):
                return group
        raise OutsideSpaceError("it merges other models, or the same in another order")

    def _slot(self, parameter: Parameter, model: str | None) -> ParameterSlot:
        config = self.settings.get(f"models[{model}].{parameter.name}") or self.settings.get(parameter.name)
        config = config or self._default(parameter)
        if config.fixed is not None:
            return ParameterSlot(parameter, model, config.fixed, {})
        label = f"{self.method.name}.{parameter.name}" + ("" if model is None else f"[{model}]")
        if config.choices is not None:
            return ParameterSlot(parameter, model, None, {REST: (Choice(label, config.choices),)})
        assert config.range is not None, "Should not reach."
        low, high = config.range
        return ParameterSlot(
            parameter,
            model,
            None,
            {
                name: tuple(Float(self._name(label, name, knot), low, high, config.log) for knot in range(self.knots))
                for name in (*self.filters, REST)
            },
        )

    def _name(self, label: str, filter_name: str, knot: int) -> str:
        return label + (f".{filter_name}" if self.filters else "") + (f".{knot}" if self.knots > 1 else "")

    def _default(self, parameter: Parameter) -> ParameterConfig:
        """Return the method's declared range or fixed value; exactly one overall scale is searched."""
        if parameter.search is not None:
            return ParameterConfig(range=(parameter.search.low, parameter.search.high), log=parameter.search.log)
        normalize = self.settings.get("normalize")
        if parameter.name == "lambda" and normalize is not None and normalize.fixed is True:
            return ParameterConfig(range=SCALE)
        fixed = parameter.default if parameter.search_fixed is None else parameter.search_fixed
        return ParameterConfig(fixed=fixed)

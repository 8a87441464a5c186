"""The part of a search space that belongs to one merge method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from ..merge_ops import MergeMethod, Parameter, Recipe, Rule, Scope, Setting
from .config import ParameterConfig
from .dimensions import Choice, Dimension, Float, Params, Value

REST = "rest"  # the tensors that no filter matches
SCALE = (0.0, 2.0)  # lambda's range where normalization leaves the scale to it


class OutsideSpaceError(ValueError):
    """A recipe is no point of the search space; the message is the reason."""


class ModelGroup(Protocol):
    """Models that are merged together; see `space.Group`."""

    @property
    def name(self) -> str: ...
    @property
    def base(self) -> str | None: ...
    @property
    def listed(self) -> tuple[str, ...]: ...
    @property
    def searched(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class ParameterSlot:
    """One value of a recipe: a parameter of one model (None: shared by all), and the dimensions that make it up.

    `model` is a reference, or the model's place, from 1, where a point chooses which models are merged.
    `dimensions` maps a filter (REST for the rest) to one dimension per knot. A slot without dimensions is fixed.
    """

    parameter: Parameter
    model: str | None
    fixed: float | bool | None
    dimensions: Mapping[str, tuple[Dimension, ...]]

    @property
    def is_idle_extra(self) -> bool:
        """Whether this is a parameter that mergekit lacks, held at its neutral default."""
        return not self.parameter.mergekit and not self.dimensions and self.fixed == self.parameter.default

    def setting(self, params: Params) -> Setting:
        """The recipe's setting at a point."""
        if not self.dimensions:
            assert self.fixed is not None, "Should not reach."
            return Setting.constant(self.fixed)
        return Setting(
            tuple(
                Rule(tuple(_number(params[d.name]) for d in knots), None if name == REST else name)
                for name, knots in self.dimensions.items()
            )
        )

    def read(self, setting: Setting | None) -> Iterator[tuple[str, Value]]:
        """The dimensions' values that give a setting; raises OutsideSpaceError where there are none."""
        label = self.parameter.name if self.model is None else f"{self.parameter.name} of {self.model}"
        rules = () if setting is None else setting.rules
        known = {REST, *self.dimensions}
        strange = [rule.filter for rule in rules if (rule.filter or REST) not in known]
        if strange:
            raise OutsideSpaceError(f"{label} has a rule for '{strange[0]}', which is no filter of the space")
        by_filter = {rule.filter or REST: rule.values for rule in reversed(rules)}
        if not self.dimensions:
            values = by_filter.get(REST, (self.parameter.default,))
            if set(values) != {self.fixed}:
                raise OutsideSpaceError(f"{label} is {list(values)}, but the space fixes it at {self.fixed}")
        for name, knots in self.dimensions.items():
            values = by_filter.get(name, by_filter.get(REST, (self.parameter.default,)))
            values = values * len(knots) if len(values) == 1 else values
            if len(values) != len(knots):
                raise OutsideSpaceError(
                    f"{label} has a gradient of {len(values)} values, the space one of {len(knots)}"
                )
            for dimension, value in zip(knots, values, strict=True):
                if value is None or not dimension.contains(value):
                    raise OutsideSpaceError(f"{label} is {value}, outside {_law(dimension)}")
                yield dimension.name, value


class MethodSpace:
    """The dimensions of one method, and how they make up its recipe."""

    def __init__(
        self,
        method: MergeMethod,
        settings: Mapping[str, ParameterConfig],
        knots: int,
        filters: tuple[str, ...],
        groups: tuple[ModelGroup, ...],
    ) -> None:
        self.method, self.settings, self.knots, self.filters, self.groups = method, settings, knots, filters, groups
        self.group_choice = Choice(f"{method.name}.models", tuple(g.name for g in groups)) if len(groups) > 1 else None

    @cached_property
    def slots(self) -> tuple[ParameterSlot, ...]:
        """All values of the method's recipes."""
        models = dict.fromkeys(self._label(group, model) for group in self.groups for model in group.searched)
        return tuple(
            self._slot(parameter, model)
            for parameter in self.method.parameters
            if parameter.effect
            for model in ((None,) if parameter.scope is Scope.TENSOR else models)
        )

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """What is searched, in a fixed order; the choice of models, if any, first."""
        head = () if self.group_choice is None else (self.group_choice,)
        return (*head, *(d for slot in self.slots for knots in slot.dimensions.values() for d in knots))

    def group(self, params: Params) -> ModelGroup:
        """The models that a point merges."""
        if self.group_choice is None:
            return self.groups[0]
        return next(group for group in self.groups if group.name == params[self.group_choice.name])

    def shared_settings(self, params: Params) -> dict[str, Setting]:
        """The recipe's settings for all models; every one that counts is spelled out.

        What mergekit does not know is left out while it changes nothing, so that the recipe stays mergekit's.
        """
        return {s.parameter.name: s.setting(params) for s in self.slots if s.model is None and not s.is_idle_extra}

    def source_settings(self, model: str, params: Params) -> dict[str, Setting]:
        """The settings of one model; a model that is listed but not searched has weight 0."""
        group = self.group(params)
        label = self._label(group, model) if model in group.searched else None
        own = {s.parameter.name: s.setting(params) for s in self.slots if label is not None and s.model == label}
        inputs = [p for p in self.method.parameters if p.scope is Scope.INPUT]
        return own or {p.name: Setting.constant(0.0) for p in inputs}

    def read(self, recipe: Recipe) -> dict[str, Value]:
        """The point of a recipe of this method; raises OutsideSpaceError where there is none."""
        group = self._group_of(recipe)
        params: dict[str, Value] = {}
        if self.group_choice is not None:
            params[self.group_choice.name] = group.name
        sources = {source.model: source.parameters for source in recipe.models}
        labels = {self._label(group, model): model for model in group.searched}
        for slot in self.slots:
            name = slot.parameter.name
            own = {} if slot.model is None else sources.get(labels[slot.model], {})
            params.update(slot.read(own.get(name, recipe.parameters.get(name))))
        for model in group.listed:
            if model not in group.searched:
                self._check_idle(model, {**recipe.parameters, **sources.get(model, {})})
        return params

    def _label(self, group: ModelGroup, model: str) -> str:
        """What a model's values are filed under: its reference, or its place where a point chooses the models."""
        return model if self.group_choice is None else str(group.searched.index(model) + 1)

    def _check_idle(self, model: str, settings: Mapping[str, Setting]) -> None:
        for parameter in (p for p in self.method.parameters if p.scope is Scope.INPUT):
            if settings.get(parameter.name) != Setting.constant(0.0):
                raise OutsideSpaceError(f"{parameter.name} of {model} is not 0")

    def _group_of(self, recipe: Recipe) -> ModelGroup:
        named = tuple(source.model for source in recipe.models)
        for group in self.groups:
            # A base that needs no parameters may be left out of the list, or stand anywhere in it.
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
        """The declared range, or the value that a search holds it at; exactly one scale is searched."""
        if parameter.search is not None:
            return ParameterConfig(range=(parameter.search.low, parameter.search.high), log=parameter.search.log)
        normalize = self.settings.get("normalize")
        if parameter.name == "lambda" and normalize is not None and normalize.fixed is True:
            return ParameterConfig(range=SCALE)
        fixed = parameter.default if parameter.search_fixed is None else parameter.search_fixed
        return ParameterConfig(fixed=fixed)


def _number(value: Value) -> float | bool:
    assert not isinstance(value, str), "Should not reach."
    return value


def _law(dimension: Dimension) -> str:
    if isinstance(dimension, Float):
        return f"[{dimension.low:g}, {dimension.high:g}]"
    return f"{list(dimension.options)}"

"""The dimensions of one merge method, and how they determine its recipes."""

from __future__ import annotations

from functools import cached_property

from mergesmith.errors import UserError

from ..merge_ops import MergeMethod, Parameter, Recipe, Scope, Setting
from .config import MethodConfig, ParameterConfig, SpaceConfig
from .dimensions import Choice, Dimension, Float, Params, Value
from .ingredients import MergeIngredients, ModelGroup
from .parameter_slot import REST, OutsideSpaceError, ParameterSlot
from .tensor_filters import filter_substrings

WEIGHT = "weight"
SCALE = (0.0, 2.0)  # lambda's range if the weights are normalized, which leaves the scale to lambda


class MethodSpace:
    """The part of a search space that belongs to one merge method."""

    def __init__(
        self,
        method: MergeMethod,
        config: MethodConfig,
        space: SpaceConfig,
        *,
        groups: tuple[ModelGroup, ...],
        ingredients: MergeIngredients,
    ) -> None:
        """`config` is the method's part of the section `space`.

        Raises:
            UserError: a filter or the number of steps does not fit the model.
        """
        self.method, self.config, self.space, self.groups = method, config, space, groups
        self.ingredients = ingredients
        self.group_choice = Choice(f"{method.name}.models", tuple(g.name for g in groups)) if len(groups) > 1 else None
        self._substrings: dict[str, tuple[str, ...]] = {}

    def given(self, parameter: str, model: str | None) -> ParameterConfig | None:
        """Return the user's setting of a parameter, that for the model first; None if there is none."""
        found = self.config.parameters
        return found.get(f"models[{model}].{parameter}") or found.get(parameter)

    @cached_property
    def slots(self) -> tuple[ParameterSlot, ...]:
        """All parameter values of the method's recipes, searched or fixed."""
        models = dict.fromkeys(self._label(group, model) for group in self.groups for model in group.searched)
        return tuple(
            self._slot(parameter, model)
            for parameter in self.method.parameters
            if parameter.effect
            for model in ((None,) if parameter.scope is Scope.TENSOR or self._is_shared(parameter) else models)
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
        if model not in group.searched:
            return {WEIGHT: Setting.constant(0.0)}
        label = self._label(group, model)
        return {s.parameter.name: s.setting(params) for s in self.slots if s.model == label}

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
            models = group.searched if slot.model is None else (labels[slot.model],)
            whole = recipe.parameters.get(name)
            by_model = slot.parameter.scope is not Scope.TENSOR
            settings = [sources.get(model, {}).get(name, whole) if by_model else whole for model in models]
            if any(setting != settings[0] for setting in settings):
                raise OutsideSpaceError(f"{name} differs between models, which share one value in the space")
            params.update(slot.read(settings[0]))
        for model in group.listed:
            if model not in group.searched:
                settings_of_model = {**recipe.parameters, **sources.get(model, {})}
                if settings_of_model.get(WEIGHT) != Setting.constant(0.0):
                    raise OutsideSpaceError(f"{WEIGHT} of {model} is not 0")
        return params

    def _label(self, group: ModelGroup, model: str) -> str:
        """Return the label of a model's dimensions: its reference, or its position if the point chooses the models."""
        return model if self.group_choice is None else str(group.searched.index(model) + 1)

    def _group_of(self, recipe: Recipe) -> ModelGroup:
        named = tuple(source.model for source in recipe.models)
        for group in self.groups:
            # A base without parameters may be left out of the list, or be anywhere in it.
            listed = tuple(m for m in named if m != group.base) == tuple(m for m in group.listed if m != group.base)
            if listed and recipe.base_model == group.base and (group.base in named or group.base not in group.listed):
                return group
        raise OutsideSpaceError("it merges other models, or the same in another order")

    def _is_shared(self, parameter: Parameter) -> bool:
        config = self.given(parameter.name, None)
        return config is not None and config.share

    def _slot(self, parameter: Parameter, model: str | None) -> ParameterSlot:
        given = self.given(parameter.name, model)
        config = given if given is not None and given.has_values else self._default(parameter, model)
        if config.fixed is not None:
            return ParameterSlot(parameter, model, config.fixed, {})
        label = f"{self.method.name}.{parameter.name}" + ("" if model is None else f"[{model}]")
        if config.choices is not None:
            return ParameterSlot(parameter, model, None, {REST: (Choice(label, config.choices),)})
        assert config.range is not None, "Should not reach."
        low, high = config.range
        filters = self._filters(given)
        count, blocks = self._depth(given)
        dimensions = {
            name: tuple(
                Float(label + (f".{name}" if filters else "") + (f".{i}" if count > 1 else ""), low, high, config.log)
                for i in range(count)
            )
            for name in (*filters, REST)
        }
        return ParameterSlot(parameter, model, None, dimensions, blocks, {name: self._texts(name) for name in filters})

    def _filters(self, given: ParameterConfig | None) -> tuple[str, ...]:
        """Return the filters of a parameter: its own, else the method's, else those of the space."""
        levels = (None if given is None else given.filters, self.config.filters)
        return next((filters for filters in levels if filters is not None), self.space.filters)

    def _depth(self, given: ParameterConfig | None) -> tuple[int, tuple[int, ...]]:
        """Return how many values a parameter has over depth, and the layers of every block if they are steps."""
        levels = ((level.knots, level.steps) for level in (given, self.config) if level is not None)
        knots, steps = next(
            ((knots, steps) for knots, steps in levels if knots is not None or steps is not None),
            (self.space.knots, self.space.steps),
        )
        if steps is None:
            return knots or 1, ()
        layers = self.ingredients.layers
        if layers is None or steps > layers:
            raise UserError(
                f"steps must be at most the number of layers, {layers or 'which is unknown'}, but is {steps}"
            )
        ends = [(i + 1) * layers // steps for i in range(steps)]
        return steps, tuple(end - start for start, end in zip([0, *ends], ends, strict=False))

    def _texts(self, pattern: str) -> tuple[str, ...]:
        if pattern not in self._substrings:
            self._substrings[pattern] = filter_substrings(pattern, self.ingredients.tensors)
        return self._substrings[pattern]

    def _default(self, parameter: Parameter, model: str | None) -> ParameterConfig:
        """Return the method's declared range or fixed value; exactly one overall scale is searched.

        A weight that all models share has its range divided by their number: the range is that of the total.
        """
        if parameter.search is not None:
            low, high = parameter.search.low, parameter.search.high
            if parameter.name == WEIGHT and model is None:
                low, high = low / self._merged, high / self._merged
            return ParameterConfig(range=(low, high), log=parameter.search.log)
        if parameter.name == "lambda" and self.normalizes:
            return ParameterConfig(range=SCALE)
        fixed = parameter.default if parameter.search_fixed is None else parameter.search_fixed
        return ParameterConfig(fixed=fixed)

    @property
    def _merged(self) -> int:
        return max(len(group.searched) for group in self.groups)

    @property
    def normalizes(self) -> bool:
        """Whether the user asked for normalized weights."""
        normalize = self.given("normalize", None)
        return normalize is not None and normalize.fixed is True

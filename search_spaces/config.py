"""The `space:` section of search.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator, model_serializer, model_validator

from mergesmith.config_section import ConfigSection

PER_MODEL = re.compile(r"models\[(?P<model>.+)\]\.(?P<name>\w+)")
REGEX = "re:"  # begins a filter that is a regular expression
PLACES = ("knots", "steps", "filters")  # keys that divide a parameter over depth and kinds of tensors
FORMS = "give a number, [low, high], {range: [low, high], log: true} or {choices: [...]}"


def _checked_filters(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if value is None:
        return value
    if len(set(value)) < len(value) or "rest" in value or "" in value:
        raise ValueError("filters must be distinct parts of tensor names; 'rest' is what no filter matches")
    for pattern in value:
        if pattern.startswith(REGEX):
            try:
                re.compile(pattern.removeprefix(REGEX))
            except re.error as error:
                raise ValueError(f"'{pattern}' is no regular expression: {error}") from None
    return value


Filters = Annotated[tuple[str, ...], AfterValidator(_checked_filters)]
Count = Annotated[int, Field(ge=1, le=64)]
Blocks = Annotated[int, Field(ge=1, le=512)]


class ParameterConfig(ConfigSection):
    """The user's setting of one parameter: a fixed value, a range, or choices.

    Written as a number (fixed), `[low, high]`, `{range: [low, high], log: true}` or `{choices: [...]}`. Without any of
    these, the method's range is searched, divided as the other keys say.

    Attributes:
        share: whether all models have the same value.
        knots: as in `space`, for this parameter.
        steps: as in `space`, for this parameter.
        filters: as in `space`, for this parameter.
    """

    fixed: float | bool | None = None
    range: tuple[float, float] | None = None
    log: bool = False
    choices: tuple[float | bool, ...] | None = None
    share: bool = False
    knots: Count | None = None
    steps: Blocks | None = None
    filters: Filters | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, (bool, int, float)):
            return {"fixed": value}
        if isinstance(value, list):
            return {"range": value}
        return value

    @model_validator(mode="after")
    def _at_most_one(self) -> ParameterConfig:
        given = [name for name in ("fixed", "range", "choices") if getattr(self, name) is not None]
        divided = [name for name in PLACES if getattr(self, name) is not None]
        if len(given) > 1 or not (given or divided or self.share):
            raise ValueError(FORMS)
        if divided and given in (["fixed"], ["choices"]):
            raise ValueError(f"{divided[0]} needs a range, but the parameter has {given[0]}")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"low < high must hold, but the range is {list(self.range)}")
        if self.log and (self.range is None or self.range[0] <= 0):
            raise ValueError("log needs a range with low > 0")
        if self.choices is not None and len(set(self.choices)) < 1:
            raise ValueError("choices must not be empty")
        return _knots_or_steps(self)

    @property
    def has_values(self) -> bool:
        """Whether the user gave a value, a range or choices."""
        return self.fixed is not None or self.range is not None or self.choices is not None


class MethodConfig(ConfigSection):
    """The settings of one method: `{PARAMETER: setting, knots: ..., models: [...]}`.

    Attributes:
        parameters: parameter -> setting; `models[MODEL].PARAMETER` is that of one model.
        knots: as in `space`, for this method.
        steps: as in `space`, for this method.
        filters: as in `space`, for this method.
        models: the models that this method merges; all, if unset. For a method of two inputs, two models are its pair,
            in this order; the base model may be one of them.
    """

    parameters: dict[str, ParameterConfig] = Field(default_factory=dict)
    knots: Count | None = None
    steps: Blocks | None = None
    filters: Filters | None = None
    models: tuple[str, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Separate the parameters from the other keys."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            return value
        others = {key: value[key] for key in (*PLACES, "models") if key in value}
        return {**others, "parameters": {key: found for key, found in value.items() if key not in others}}

    @model_validator(mode="after")
    def _one_division(self) -> MethodConfig:
        return _knots_or_steps(self)

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        others = {key: getattr(self, key) for key in (*PLACES, "models")}
        return {**{key: value for key, value in others.items() if value is not None}, **self.parameters}


class SpaceConfig(ConfigSection):
    """The searched methods and ranges, and how they are divided over depth and kinds of tensors.

    Attributes:
        methods: method -> its settings; a list of names leaves all parameters at their defaults.
        knots: values per parameter over the depth of the model; layers between knots are interpolated.
        steps: values per parameter, each for one block of consecutive layers; instead of knots.
        filters: parts of tensor names, or regular expressions after `re:`; a parameter has one set of values per filter
            and one for the rest.
    """

    methods: dict[str, MethodConfig] = Field(
        default_factory=lambda: {
            name: MethodConfig() for name in ("linear", "slerp", "task_arithmetic", "ties", "dare_ties")
        }
    )
    knots: Count = 1
    steps: Blocks | None = None
    filters: Filters = ()

    @field_validator("methods", mode="before")
    @classmethod
    def _list_of_names(cls, value: Any) -> Any:
        return {str(name): {} for name in value} if isinstance(value, list) else value

    @field_validator("methods", mode="after")
    @classmethod
    def _not_empty(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value:
            raise ValueError("must name at least one merge method")
        return value

    @model_validator(mode="after")
    def _one_division(self) -> SpaceConfig:
        if self.knots > 1:
            _knots_or_steps(self)
        return self

    def all_filters(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield (key path, filters) of every place that sets some."""
        yield "filters", self.filters
        for name, method in self.methods.items():
            yield f"methods.{name}.filters", method.filters or ()
            for key, parameter in method.parameters.items():
                yield f"methods.{name}.{key}.filters", parameter.filters or ()


def _knots_or_steps(section: Any) -> Any:
    """Return a section that divides the depth in at most one way.

    Raises:
        ValueError: it has both knots and steps.
    """
    if section.knots is not None and section.steps is not None:
        raise ValueError("knots (interpolated) and steps (constant per block of layers) exclude each other")
    return section

"""The `space:` section of search.yaml."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from mergesmith.config_section import ConfigSection

PER_MODEL = re.compile(r"models\[(?P<model>.+)\]\.(?P<name>\w+)")


class ParameterConfig(ConfigSection):
    """The user's setting of one parameter: a fixed value, a range, or choices.

    Written as a number (fixed), `[low, high]`, `{range: [low, high], log: true}` or `{choices: [...]}`.
    """

    fixed: float | bool | None = None
    range: tuple[float, float] | None = None
    log: bool = False
    choices: tuple[float | bool, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, (bool, int, float)):
            return {"fixed": value}
        if isinstance(value, list):
            return {"range": value}
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> ParameterConfig:
        given = [name for name in ("fixed", "range", "choices") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give a number, [low, high], {range: [low, high], log: true} or {choices: [...]}")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"low < high must hold, but the range is {list(self.range)}")
        if self.log and (self.range is None or self.range[0] <= 0):
            raise ValueError("log needs a range with low > 0")
        if self.choices is not None and len(set(self.choices)) < 1:
            raise ValueError("choices must not be empty")
        return self


class SpaceConfig(ConfigSection):
    """The searched methods and ranges, and how they are divided over depth and kinds of tensors.

    Attributes:
        methods: method -> parameter -> setting; a list of names leaves all parameters at their defaults.
        knots: values per parameter over the depth of the model; layers between knots are interpolated.
        filters: parts of tensor names; a parameter has one set of values per filter and one for the rest.
    """

    methods: dict[str, dict[str, ParameterConfig]] = Field(
        default_factory=lambda: {name: {} for name in ("linear", "slerp", "task_arithmetic", "ties", "dare_ties")}
    )
    knots: Annotated[int, Field(ge=1, le=64)] = 1
    filters: tuple[str, ...] = ()

    @field_validator("methods", mode="before")
    @classmethod
    def _list_of_names(cls, value: Any) -> Any:
        if isinstance(value, list):
            return {str(name): {} for name in value}
        if isinstance(value, dict):
            return {name: parameters or {} for name, parameters in value.items()}
        return value

    @field_validator("methods", mode="after")
    @classmethod
    def _not_empty(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value:
            raise ValueError("must name at least one merge method")
        return value

    @field_validator("filters", mode="after")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value) or "rest" in value or "" in value:
            raise ValueError("filters must be distinct parts of tensor names; 'rest' is what no filter matches")
        return value

"""One value of a recipe and the dimensions that determine it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..merge_ops import Parameter, Rule, Setting
from .dimensions import Dimension, Float, Params, Value

REST = "rest"  # the tensors that no filter matches


class OutsideSpaceError(ValueError):
    """A recipe is not in the search space; the message is the reason."""


@dataclass(frozen=True)
class ParameterSlot:
    """One parameter of a recipe, shared by all models or of one model, and the dimensions that determine its value.

    Attributes:
        parameter: the method's parameter.
        model: None if shared; else the model's reference, or its position from 1 if the point chooses the models.
        fixed: the value, if it is not searched.
        dimensions: filter (REST for the rest) -> one dimension per knot; empty if fixed.
    """

    parameter: Parameter
    model: str | None
    fixed: float | bool | None
    dimensions: Mapping[str, tuple[Dimension, ...]]

    @property
    def is_idle_extra(self) -> bool:
        """Whether mergekit lacks the parameter and it is fixed at its neutral default."""
        return not self.parameter.mergekit and not self.dimensions and self.fixed == self.parameter.default

    def setting(self, params: Params) -> Setting:
        """Return the recipe's setting at a point."""
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
        """Yield (dimension, value) of the point that gives a setting.

        Raises:
            OutsideSpaceError: no point gives it.
        """
        label = self.parameter.name if self.model is None else f"{self.parameter.name} of {self.model}"
        rules = () if setting is None else setting.rules
        known = {REST, *self.dimensions}
        unknown = [rule.filter for rule in rules if (rule.filter or REST) not in known]
        if unknown:
            raise OutsideSpaceError(f"{label} has a rule for '{unknown[0]}', which is not a filter of the space")
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
                    raise OutsideSpaceError(f"{label} is {value}, outside {_bounds(dimension)}")
                yield dimension.name, value


def _number(value: Value) -> float | bool:
    assert not isinstance(value, str), "Should not reach."
    return value


def _bounds(dimension: Dimension) -> str:
    if isinstance(dimension, Float):
        return f"[{dimension.low:g}, {dimension.high:g}]"
    return f"{list(dimension.options)}"

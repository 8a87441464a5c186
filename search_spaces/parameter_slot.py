"""One value of a recipe and the dimensions that determine it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..merge_ops import Parameter, Rule, Setting
from .dimensions import Dimension, Float, Params, Value

REST = "rest"  # the tensors that no filter matches
Number = float | bool


class OutsideSpaceError(ValueError):
    """A recipe is not in the search space; the message is the reason."""


@dataclass(frozen=True)
class ParameterSlot:
    """One parameter of a recipe, shared by all models or of one model, and the dimensions that determine its value.

    Attributes:
        parameter: the method's parameter.
        model: None if shared; else the model's reference, or its position from 1 if the point chooses the models.
        fixed: the value, if it is not searched.
        dimensions: filter (REST for the rest) -> one dimension per knot or block; empty if fixed.
        blocks: the number of layers of every block, if the dimensions are the values of blocks; empty for knots.
        substrings: filter -> the substrings by which the recipe writes it; a filter that is absent is one itself.
    """

    parameter: Parameter
    model: str | None
    fixed: float | bool | None
    dimensions: Mapping[str, tuple[Dimension, ...]]
    blocks: tuple[int, ...] = ()
    substrings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_idle_extra(self) -> bool:
        """Whether mergekit lacks the parameter and it is fixed at its neutral default."""
        return not self.parameter.mergekit and not self.dimensions and self.fixed == self.parameter.default

    def setting(self, params: Params) -> Setting:
        """Return the recipe's setting at a point."""
        if not self.dimensions:
            assert self.fixed is not None, "Should not reach."
            return Setting.constant(self.fixed)
        rules = []
        for name, knots in self.dimensions.items():
            values = self._over_depth(tuple(_number(params[d.name]) for d in knots))
            rules += [Rule(values, text) for text in self._texts(name)]
        return Setting(tuple(rules))

    def read(self, setting: Setting | None) -> Iterator[tuple[str, Value]]:
        """Yield (dimension, value) of the point that gives a setting.

        Raises:
            OutsideSpaceError: no point gives it.
        """
        rules = () if setting is None else setting.rules
        known = {None, *(text for name in self.dimensions for text in self._texts(name))}
        unknown = [rule.filter for rule in rules if rule.filter not in known]
        if unknown:
            raise OutsideSpaceError(f"{self._label} has a rule for '{unknown[0]}', which is not a filter of the space")
        by_text = {rule.filter: rule.values for rule in reversed(rules)}
        rest = by_text.get(None, (self.parameter.default,))
        if not self.dimensions and set(rest) != {self.fixed}:
            raise OutsideSpaceError(f"{self._label} is {list(rest)}, but the space fixes it at {self.fixed}")
        for name, knots in self.dimensions.items():
            found = {by_text.get(text, rest) for text in self._texts(name)}
            if len(found) > 1:
                raise OutsideSpaceError(f"{self._label} has several values for the tensors of '{name}'")
            for dimension, value in zip(knots, self._per_dimension(found.pop(), len(knots)), strict=True):
                if value is None or not dimension.contains(value):
                    raise OutsideSpaceError(f"{self._label} is {value}, outside {_bounds(dimension)}")
                yield dimension.name, value

    @property
    def _label(self) -> str:
        return self.parameter.name if self.model is None else f"{self.parameter.name} of {self.model}"

    def _texts(self, name: str) -> tuple[str | None, ...]:
        """Return the filters of a recipe's rules for a filter of the space."""
        return (None,) if name == REST else self.substrings.get(name, (name,))

    def _over_depth(self, values: tuple[Number, ...]) -> tuple[Number, ...]:
        """Return the values of a recipe's gradient: one per layer if the depth is divided into blocks."""
        if not self.blocks or len(values) == 1:
            return values
        return tuple(value for value, layers in zip(values, self.blocks, strict=True) for _ in range(layers))

    def _per_dimension(self, values: tuple[Number | None, ...], count: int) -> tuple[Number | None, ...]:
        """Return one value per dimension from those of a recipe's rule.

        Raises:
            OutsideSpaceError: there are too many or too few of them, or they differ within a block.
        """
        if len(values) == 1:
            return values * count
        if self.blocks and count > 1 and len(values) == sum(self.blocks):
            starts = [sum(self.blocks[:i]) for i in range(count)]
            firsts = tuple(values[start] for start in starts)
            if tuple(v for v, layers in zip(firsts, self.blocks, strict=True) for _ in range(layers)) != values:
                raise OutsideSpaceError(
                    f"{self._label} changes within a block of layers, where the space has one value"
                )
            return firsts
        if len(values) != count or self.blocks:
            wanted = f"{count} blocks of layers" if self.blocks else f"one of {count}"
            raise OutsideSpaceError(f"{self._label} has a gradient of {len(values)} values, the space {wanted}")
        return values


def _number(value: Value) -> Number:
    assert not isinstance(value, str), "Should not reach."
    return value


def _bounds(dimension: Dimension) -> str:
    if isinstance(dimension, Float):
        return f"[{dimension.low:g}, {dimension.high:g}]"
    return f"{list(dimension.options)}"

"""The records that a recipe is built from: parameter rules, settings, sources, slices and modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Number = float | bool


@dataclass(frozen=True)
class Rule:
    """One value of a parameter, for the tensors whose name contains `filter` (None: for all).

    One value is a constant; several are a gradient, spread evenly over the depth of the slice.
    """

    values: tuple[Number, ...]
    filter: str | None = None

    def __post_init__(self) -> None:
        # Equal rules must be written alike: 1, 1.0 and numpy's 1.0 become one float, and -0.0 becomes 0.0.
        plain = tuple(v if isinstance(v, bool) else float(v) + 0.0 for v in self.values)
        object.__setattr__(self, "values", plain)

    def matches(self, tensor_name: str) -> bool:
        """Whether this rule applies to a tensor of that checkpoint name (plain substring, as in mergekit)."""
        return self.filter is None or self.filter in tensor_name

    def at(self, depth: float) -> Number:
        """The value at a relative depth in [0, 1], piecewise linear between the gradient's values."""
        if len(self.values) == 1:
            return self.values[0]
        position = depth * (len(self.values) - 1)
        left = int(position)
        right = min(len(self.values) - 1, left + 1)
        fraction = position - left
        return (1.0 - fraction) * self.values[left] + fraction * self.values[right]


@dataclass(frozen=True)
class Setting:
    """What a recipe says of one parameter at one level: rules, of which the first that matches counts."""

    rules: tuple[Rule, ...]

    @classmethod
    def constant(cls, value: Number) -> Setting:
        """The same value for every tensor."""
        return cls((Rule((value,)),))

    def at(self, tensor_name: str, depth: float) -> Number | None:
        """The value for a tensor, or None where no rule matches it."""
        return next((rule.at(depth) for rule in self.rules if rule.matches(tensor_name)), None)


Parameters = Mapping[str, Setting]


@dataclass(frozen=True)
class Source:
    """One input model of a slice: a model reference, the layers [start, stop) taken from it, its own parameters."""

    model: str
    layer_range: tuple[int, int] | None = None
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Slice:
    """A run of output layers: the sources that are merged into it, and parameters for these layers alone."""

    sources: tuple[Source, ...]
    base_model: str | None = None
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Module:
    """What is merged into one part of a model of several; exactly one of `models` and `slices` is filled."""

    models: tuple[Source, ...] = ()
    slices: tuple[Slice, ...] = ()
    parameters: Parameters = field(default_factory=dict)

"""The records that a recipe is built from: parameter rules, settings, sources, slices and modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Number = float | bool


@dataclass(frozen=True)
class Rule:
    """The value of a parameter for tensors whose name contains `filter` (None: for all tensors).

    A single value is a constant; several are a gradient, spread evenly over the depth of the slice.
    """

    values: tuple[Number, ...]
    filter: str | None = None

    def __post_init__(self) -> None:
        # Equal rules must have the same text: 1, 1.0 and numpy's 1.0 become one float, and -0.0 becomes 0.0.
        plain = tuple(v if isinstance(v, bool) else float(v) + 0.0 for v in self.values)
        object.__setattr__(self, "values", plain)

    def matches(self, tensor_name: str) -> bool:
        """Return whether this rule applies to a tensor with this checkpoint name (substring match, as in mergekit)."""
        return self.filter is None or self.filter in tensor_name

    def at(self, depth: float) -> Number:
        """Return the value at a relative depth in [0, 1], interpolated linearly between the gradient's values."""
        if len(self.values) == 1:
            return self.values[0]
        position = depth * (len(self.values) - 1)
        left = int(position)
        right = min(len(self.values) - 1, left + 1)
        fraction = position - left
        return (1.0 - fraction) * self.values[left] + fraction * self.values[right]


@dataclass(frozen=True)
class Setting:
    """The rules for one parameter at one level of a recipe; the first rule that matches applies."""

    rules: tuple[Rule, ...]

    @classmethod
    def constant(cls, value: Number) -> Setting:
        """Return a setting with the same value for every tensor."""
        return cls((Rule((value,)),))

    def rule_of(self, tensor_name: str) -> Rule | None:
        """Return the rule that applies to a tensor, or None if none matches it."""
        return next((rule for rule in self.rules if rule.matches(tensor_name)), None)

    def at(self, tensor_name: str, depth: float) -> Number | None:
        """Return the value for a tensor, or None if no rule matches it."""
        rule = self.rule_of(tensor_name)
        return None if rule is None else rule.at(depth)


Parameters = Mapping[str, Setting]


@dataclass(frozen=True)
class Source:
    """An input model of a slice: its reference, the layers [start, stop) taken from it, and its parameters."""

    model: str
    layer_range: tuple[int, int] | None = None
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Slice:
    """A run of output layers: the sources that are merged into it, and parameters of these layers only."""

    sources: tuple[Source, ...]
    base_model: str | None = None
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Module:
    """The inputs of one part of a multi-part model; exactly one of `models` and `slices` is non-empty."""

    models: tuple[Source, ...] = ()
    slices: tuple[Slice, ...] = ()
    parameters: Parameters = field(default_factory=dict)


def with_defaults(first: Parameters, then: Parameters) -> Parameters:
    """Join the settings of two levels: rules of the first level take precedence over those of the second."""
    rules = {name: first[name].rules if name in first else () for name in (*first, *then)}
    return {name: Setting(upper + (then[name].rules if name in then else ())) for name, upper in rules.items()}

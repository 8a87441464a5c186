"""The dimensions of a search space: named numbers and choices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

Value = float | bool | str
Params = Mapping[str, Value]


@dataclass(frozen=True)
class Float:
    """A number in [low, high]; with `log`, it is searched on a logarithmic scale."""

    name: str
    low: float
    high: float
    log: bool = False

    def contains(self, value: Value) -> bool:
        """Return whether the value is in the range."""
        return not isinstance(value, (bool, str)) and self.low <= value <= self.high

    def to_unit(self, value: float) -> float:
        """Map a value of the range to [0, 1]."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def from_unit(self, position: float) -> float:
        """Map a position in [0, 1] to a value; rounding never leaves the range."""
        span = self.high / self.low if self.log else self.high - self.low
        value = self.low * span**position if self.log else self.low + position * span
        return min(self.high, max(self.low, value))


@dataclass(frozen=True)
class Choice:
    """One of several unordered options."""

    name: str
    options: tuple[Value, ...]

    def contains(self, value: Value) -> bool:
        """Return whether the value is an option."""
        return value in self.options


Dimension = Float | Choice

"""What an optimizer moves: named numbers and choices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

Value = float | bool | str
Params = Mapping[str, Value]


@dataclass(frozen=True)
class Float:
    """A number in [low, high]; `log` says that ratios matter rather than differences."""

    name: str
    low: float
    high: float
    log: bool = False

    def contains(self, value: Value) -> bool:
        """Whether the value lies in the range."""
        return not isinstance(value, (bool, str)) and self.low <= value <= self.high

    def to_unit(self, value: float) -> float:
        """The value's place in [0, 1]."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def from_unit(self, place: float) -> float:
        """The value at a place in [0, 1]; never outside the range."""
        span = self.high / self.low if self.log else self.high - self.low
        value = self.low * span**place if self.log else self.low + place * span
        return min(self.high, max(self.low, value))


@dataclass(frozen=True)
class Choice:
    """One of several options, without order."""

    name: str
    options: tuple[Value, ...]

    def contains(self, value: Value) -> bool:
        """Whether the value is an option."""
        return value in self.options


Dimension = Float | Choice

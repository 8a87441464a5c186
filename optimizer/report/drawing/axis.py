"""Linear axes: from values to positions, round tick marks, and their markup."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from markupsafe import Markup

from .svg import line, text

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
MARGIN = 0.04  # of the range of the values, at both ends of an axis


@dataclass(frozen=True)
class Axis:
    """A linear map of values in [low, high] to positions between `start` and `stop`."""

    low: float
    high: float
    start: float
    stop: float

    @classmethod
    def around(cls, values: Iterable[float], start: float, stop: float) -> Axis:
        """Return an axis that shows all finite values with a margin."""
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        margin = MARGIN * (high - low) or MARGIN * abs(high) or 1.0
        return cls(low - margin, high + margin, start, stop)

    def at(self, value: float) -> float:
        """Return the position of a value."""
        return self.start + (self.stop - self.start) * (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """Return at most `most` round values in the range."""
        rough = (self.high - self.low) / most
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(size * s for s in STEPS if size * s >= rough)
        first = math.ceil(self.low / step)
        return [i * step for i in range(first, math.floor(self.high / step) + 1)]


def label(value: float) -> str:
    """Return the label of a tick mark."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value + 0.0:.4g}"


def rows(axis: Axis, left: float, right: float) -> Iterator[Markup]:
    """Yield grid lines and labels of a vertical axis."""
    for tick in axis.ticks():
        y = axis.at(tick)
        yield line(left, y, right, y, "grid")
        yield text(left - 6, y + 4, label(tick), class_="tick", text_anchor="end")


def columns(axis: Axis, top: float, bottom: float, *, most: int = 6) -> Iterator[Markup]:
    """Yield grid lines and labels of a horizontal axis."""
    for tick in axis.ticks(most):
        x = axis.at(tick)
        yield line(x, top, x, bottom, "grid")
        yield text(x, bottom + 16, label(tick), class_="tick", text_anchor="middle")

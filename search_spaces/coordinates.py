"""The unit cube in which samplers move: a total weight and shares instead of one independent weight per model.

    w_i = T s_i      weight of model i; T the total, s the shares, sum_i s_i = 1

Good merges have similar totals T (Akiba et al. 2024, arXiv:2403.13187, find totals near 2 by evolution), but very
different single weights: n independent weights, uniform in [0, 1.5], sum to 0.75 n on average, which breaks the
model for n > 3. Each axis of the cube is the quantile of a prior, so that uniform points of the cube are draws from it:

* total: log T normal around log 1.2, cut off at 0.3 and 3,
* share: 0 with probability OFF (the model is left out), else log-normal, then normalized,
* over depth and filters: the model's weight times a log-normal factor per place,
* every other parameter: uniform over its range, on a log scale if the range is logarithmic.

Recipes and trials keep plain weights. Weights for which the user gave a range are axes themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from statistics import NormalDist

import numpy as np

from .dimensions import Choice, Float, Params, Value
from .method_space import MethodSpace
from .parameter_slot import ParameterSlot

WEIGHT, NORMALIZE = "weight", "normalize"
CENTRE, SPREAD, LEAST, MOST = 1.2, 0.45, 0.3, 3.0  # of the total weight: median, sigma of its logarithm, bounds
OFF = 0.1  # the probability that a model is left out
SHARE_SPREAD = 0.7  # sigma of the logarithm of an unnormalized share
PLACE_SPREAD = 0.4  # sigma of the logarithm of a place's factor (a knot, a filter)
EDGE = 1e-3  # quantiles are kept this far from 0 and 1
NORMAL = NormalDist()


@dataclass(frozen=True)
class Weights:
    """The weights of one method that are searched as total and shares: model -> its dimensions, a place each.

    `scaled` says whether the total matters; if the method normalizes weights, only the shares do.
    """

    by_model: Mapping[str, tuple[Float, ...]]
    scaled: bool

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """The names of the axes: the total, a share per model, a factor per model and place."""
        total = ("total weight",) if self.scaled else ()
        shares = tuple(f"share of {model}" for model in self.by_model) if len(self.by_model) > 1 else ()
        places = (d.name for dimensions in self.by_model.values() if len(dimensions) > 1 for d in dimensions)
        return (*total, *shares, *(f"factor of {name}" for name in places))

    def values(self, point: Sequence[float]) -> Iterator[tuple[str, float]]:
        """Yield the weights (dimension, value) at a position in the cube of the axes."""
        axes = iter(point)
        total = _total(next(axes)) if self.scaled else 1.0
        shares = [next(axes) for _ in self.by_model] if len(self.by_model) > 1 else [1.0]
        raw = [_share(q) for q in shares]
        if not any(raw):  # at least one model is merged
            raw[shares.index(max(shares))] = 1.0
        values: dict[Float, float] = {}
        for share, dimensions in zip(raw, self.by_model.values(), strict=True):
            factors = [_spread(next(axes), PLACE_SPREAD) for _ in dimensions] if len(dimensions) > 1 else [1.0]
            mean = _mean(factors)
            values.update((d, share * factor / mean) for d, factor in zip(dimensions, factors, strict=True))
        # Without a total only ratios count: the largest weight becomes the upper end of its range.
        scale = total / sum(raw) if self.scaled else min(d.high for d in values) / max(values.values())
        yield from ((d.name, min(d.high, max(d.low, scale * value))) for d, value in values.items())

    def point(self, params: Params) -> Iterator[float]:
        """Yield the position of weights in the cube of the axes."""
        weights = {model: [float(params[d.name]) for d in dims] for model, dims in self.by_model.items()}
        sizes = {model: _mean(values) for model, values in weights.items()}
        total = sum(sizes.values())
        if self.scaled:
            yield _total_quantile(total)
        logs = {model: math.log(size / total) for model, size in sizes.items() if size > 0}
        middle = sum(logs.values()) / len(logs) if logs else 0.0
        if len(sizes) > 1:
            for model in sizes:
                on = _quantile((logs[model] - middle) / SHARE_SPREAD) if model in logs else None
                yield OFF / 2 if on is None else OFF + (1 - OFF) * on
        for model, values in weights.items():
            if len(values) > 1:
                for value in values:
                    ratio = value / sizes[model] if sizes[model] > 0 else 1.0
                    yield _quantile(math.log(max(ratio, 1e-9)) / PLACE_SPREAD)


class Coordinates:
    """The unit cube of one arm: a method with one setting of its choices. `params(point(p))` is p, up to limits."""

    def __init__(self, space: MethodSpace, choices: Params) -> None:
        self.choices = choices  # the method's choices, and other values that all points of the arm share
        self.weights = _weights(space)
        inside = {d.name for dims in self.weights.by_model.values() for d in dims} if self.weights else set()
        self.floats = tuple(d for d in space.dimensions if isinstance(d, Float) and d.name not in inside)

    @cached_property
    def middle(self) -> Params:
        """The point at the median of every axis."""
        return self.params(np.full(len(self.axes), 0.5))

    def matches(self, params: Params) -> bool:
        """Whether a point belongs to this arm."""
        return all(params.get(name) == value for name, value in self.choices.items())

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes."""
        return (*(self.weights.axes if self.weights else ()), *(d.name for d in self.floats))

    def params(self, point: np.ndarray) -> Params:
        """Return the point of the search space at a position in the cube, (len(axes),) in [0, 1]."""
        values = [min(1.0, max(0.0, float(q))) for q in point]
        split = len(self.weights.axes) if self.weights else 0
        found: dict[str, Value] = dict(self.choices)
        if self.weights:
            found.update(self.weights.values(values[:split]))
        found.update((d.name, d.from_unit(q)) for d, q in zip(self.floats, values[split:], strict=True))
        return found

    def point(self, params: Params) -> np.ndarray:
        """Return the position of a point of the search space in the cube, (len(axes),) float64."""
        weights = self.weights.point(params) if self.weights else ()
        return np.array([*weights, *(d.to_unit(float(params[d.name])) for d in self.floats)], np.float64)


def arms(space: MethodSpace, shared: Params) -> list[Coordinates]:
    """Return a cube for every setting of a method's choices; `shared` (the method's name) is in all their points."""
    choices = [d for d in space.dimensions if isinstance(d, Choice)]
    return [
        Coordinates(space, {**shared, **dict(zip((c.name for c in choices), options, strict=True))})
        for options in product(*(choice.options for choice in choices))
    ]


def _weights(space: MethodSpace) -> Weights | None:
    """Return the weights of a method for which the user gave no range; None if there are none."""
    by_model: dict[str, tuple[Float, ...]] = {}
    for slot in space.slots:
        if slot.parameter.name != WEIGHT or slot.model is None or _given(space, slot):
            continue
        dimensions = [d for knots in slot.dimensions.values() for d in knots if isinstance(d, Float)]
        if dimensions:
            by_model[slot.model] = tuple(dimensions)
    return Weights(by_model, _scaled(space)) if by_model else None


def _given(space: MethodSpace, slot: ParameterSlot) -> bool:
    config = space.given(slot.parameter.name, slot.model)
    return config is not None and config.has_values


def _scaled(space: MethodSpace) -> bool:
    """Return whether a method uses its weights unchanged: it can normalize them, and does not."""
    slot = next((slot for slot in space.slots if slot.parameter.name == NORMALIZE), None)
    return slot is not None and not slot.dimensions and slot.fixed is False


def _mean(values: Sequence[float]) -> float:
    """Return the geometric mean, to which factors are relative; the arithmetic one if a value is not positive."""
    if min(values) > 0:
        return math.exp(sum(map(math.log, values)) / len(values))
    return sum(values) / len(values)


def _quantile(z: float) -> float:
    return min(1 - EDGE, max(EDGE, NORMAL.cdf(z)))


def _spread(q: float, sigma: float) -> float:
    return math.exp(sigma * NORMAL.inv_cdf(min(1 - EDGE, max(EDGE, q))))


def _share(q: float) -> float:
    return 0.0 if q < OFF else _spread((q - OFF) / (1 - OFF), SHARE_SPREAD)


_LOW, _HIGH = (NORMAL.cdf(math.log(bound / CENTRE) / SPREAD) for bound in (LEAST, MOST))


def _total(q: float) -> float:
    return min(MOST, max(LEAST, CENTRE * math.exp(SPREAD * NORMAL.inv_cdf(_LOW + q * (_HIGH - _LOW)))))


def _total_quantile(total: float) -> float:
    z = math.log(max(total, 1e-9) / CENTRE) / SPREAD
    return min(1.0, max(0.0, (NORMAL.cdf(z) - _LOW) / (_HIGH - _LOW)))

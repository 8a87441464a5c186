"""Arms that share one landscape: a weight means nearly the same in all methods that merge task vectors.

Such arms form a group. A Gaussian process over the group's features learns from all of its candidates, fine-tunes and
base included. Features are plain weights: in total and shares one merge has many places, and the log scale of a small
share is stretched without bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from ...search_spaces import BASE, METHOD, Coordinates, Params, parent_name
from .arms import Arms
from .sampler import Observation

NEAREST = 0.02  # points whose features differ by less are the same for a search
ABSENT = 1.0  # the feature of a parameter in methods that lack it; a density of 1 keeps everything


class Group:
    """Arms with the same models and places, whose weights count as they are; or one arm alone."""

    def __init__(self, arms: Sequence[Coordinates]) -> None:
        self.arms = tuple(arms)

    def arm_of(self, params: Params) -> Coordinates | None:
        """Return the arm that a point belongs to; None if it is none of this group."""
        return next((arm for arm in self.arms if arm.matches(params)), None)

    @property
    def names(self) -> list[str]:
        """The choices of each arm, which identify the group."""
        return [str(sorted(arm.choices.items())) for arm in self.arms]

    @property
    def axes(self) -> int:
        """The largest number of values that an arm can move."""
        return max(len(arm.axes) for arm in self.arms)

    @cached_property
    def size(self) -> int:
        """The number of features."""
        return len(self.features(self.arms[0].middle))

    def features(self, params: Params) -> np.ndarray:
        """Return a point's features: weights, the mean of every other parameter over models, the method; (size,)."""
        arm = self.arm_of(params)
        assert arm is not None, "Should not reach."
        weights, units = split(arm, params)
        if arm.weights is not None and not arm.weights.scaled:
            weights = weights / max(float(weights.sum()), 1e-9)
        if len(self.arms) == 1:
            return np.array([*weights, *units])
        found: dict[str, list[float]] = {}
        for dimension, unit in zip(arm.floats, units, strict=True):
            found.setdefault(_parameter(dimension.name), []).append(float(unit))
        others = (float(np.mean(found.get(name, [ABSENT]))) for name in self._parameters)
        return np.array([*weights, *others, *(float(arm is other) for other in self.arms[1:])])

    def params_of(self, observation: Observation) -> Params | None:
        """Return the group's point that gives an observation's merge; None if there is none."""
        if observation.params:
            return observation.params if self.arm_of(observation.params) is not None else None
        return same_merge(self.arms[0], observation)

    @cached_property
    def _parameters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_parameter(d.name) for arm in self.arms for d in arm.floats))


def groups_of(arms: Arms) -> tuple[Group, ...]:
    """Return the groups of a space.

    An arm that only normalizes weights is left out if another one has the same models with any total: `linear` is task
    arithmetic of total weight 1.
    """
    shared: dict[tuple[object, ...], list[Coordinates]] = {}
    alone: list[Coordinates] = []
    for arm in arms.all:
        if arm.weights is not None and arm.weights.scaled:
            shared.setdefault(_places(arm), []).append(arm)
        elif arm.axes:
            alone.append(arm)
    covered = {_places(a) for found in shared.values() for a in found if a.choices[METHOD] == "task_arithmetic"}
    alone = [arm for arm in alone if arm.choices[METHOD] != "linear" or _places(arm) not in covered]
    return (*map(Group, shared.values()), *(Group([arm]) for arm in alone))


def same_merge(arm: Coordinates, observation: Observation) -> Params | None:
    """Return the point of an arm that gives the same merge as a fine-tune or the base; None if there is none."""
    if arm.weights is None or not arm.weights.scaled:
        return None
    names = [parent_name(model) for model in arm.weights.by_model]
    if observation.name not in (*names, BASE):
        return None
    weights = {
        d.name: float(name == observation.name)
        for name, dimensions in zip(names, arm.weights.by_model.values(), strict=True)
        for d in dimensions
    }
    return {**arm.middle, **weights}


def split(arm: Coordinates, params: Params) -> tuple[np.ndarray, np.ndarray]:
    """Return a point's weights and its other numbers, these as places in their ranges, 0 to 1."""
    weights = np.array([float(params[name]) for name, _, _ in ranges(arm)])
    return weights, np.array([d.to_unit(float(params[d.name])) for d in arm.floats])


def joined(arm: Coordinates, weights: np.ndarray, units: np.ndarray) -> Params:
    """Return the point with these weights and places of other numbers, moved into their ranges."""
    if arm.weights is not None and not arm.weights.scaled:
        largest = min(high for _, _, high in ranges(arm))
        weights = weights * largest / max(float(weights.max()), 1e-9)
    values = {n: min(high, max(low, float(w))) for (n, low, high), w in zip(ranges(arm), weights, strict=True)}
    others = {d.name: d.from_unit(float(np.clip(u, 0, 1))) for d, u in zip(arm.floats, units, strict=True)}
    return {**arm.choices, **values, **others}


def ranges(arm: Coordinates) -> Iterator[tuple[str, float, float]]:
    """Yield (name, low, high) of an arm's weights."""
    if arm.weights is not None:
        yield from ((d.name, d.low, d.high) for ds in arm.weights.by_model.values() for d in ds)


def _places(arm: Coordinates) -> tuple[object, ...]:
    return () if arm.weights is None else tuple((model, len(ds)) for model, ds in arm.weights.by_model.items())


def _parameter(name: str) -> str:
    """Return the parameter of a dimension's name, `method.parameter[model]...`."""
    return name.partition(".")[2].partition("[")[0]

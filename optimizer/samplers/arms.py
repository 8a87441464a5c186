"""The arms of a space: one per method and setting of its choices. The numbers of an arm form a unit cube."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ...search_spaces import Coordinates, Params, SearchSpace


class Arms:
    """The arms of a space, in its order; a method's probability is shared by its arms."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.by_method = {method: space.arms(method) for method in space.methods}

    @cached_property
    def all(self) -> tuple[Coordinates, ...]:
        """All arms."""
        return tuple(arm for arms in self.by_method.values() for arm in arms)

    def of(self, params: Params) -> Coordinates:
        """Return the arm that a point belongs to."""
        return next(arm for arm in self.all if arm.matches(params))

    def draw(self, rng: np.random.Generator) -> Params:
        """Draw a method, then its choices, then a point from the prior of its numbers."""
        methods = list(self.by_method.values())
        arms = methods[int(rng.integers(len(methods)))]
        arm = arms[int(rng.integers(len(arms)))]
        return arm.params(rng.random(len(arm.axes)))

"""CMA-ES: one optimizer per arm, rebuilt from the observations at every ask.

An arm is a method with one setting of its choices (slerp of one pair, say), since CMA-ES moves numbers only. Paper:
Hansen 2016, The CMA evolution strategy: a tutorial, arXiv:1604.00772; the `cmaes` package implements it.

How the budget is split: a generation, once begun, is filled. Then the next goes to an arm that has none yet, in the
order of the space; after that, generations alternate between the arm with the best observation and the arm with the
fewest generations (ties to the earlier arm).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import cmaes
import numpy as np

from mergesmith.errors import UserError

from ...search_spaces import METHOD, Choice, Float, Params, SearchSpace
from .sampler import Observation, derived_seed

NAME = "cmaes"
SIGMA = 1 / 6  # of the range: Akiba et al. 2024 (arXiv:2403.13187)
FAILED, LIMITED, GOOD = 0, 1, 2  # what a candidate came to, worst first
Worth = tuple[int, float]  # one of these, then the value (of a limited one minus its violation); compared in order


@dataclass
class Arm:
    """One method with fixed choices; points are in the unit cube of its numbers.

    `results` are (point, worth) of proposals, in the order told; `warm` those of warm starts.
    """

    fixed: Params
    floats: tuple[Float, ...]
    warm: list[tuple[np.ndarray, Worth]] = field(default_factory=list)
    results: list[tuple[np.ndarray, Worth]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """The dimension for CMA-ES, which needs at least two: a lone number gets an idle companion."""
        return max(2, len(self.floats))

    @property
    def population(self) -> int:
        """Proposals per generation: 4 + floor(3 ln n), the tutorial's default."""
        return 4 + math.floor(3 * math.log(self.size))

    @property
    def best(self) -> Worth:
        """The worth of the best observation."""
        return max((worth for _, worth in (*self.warm, *self.results)), default=(FAILED, -math.inf))

    def point(self, params: Params) -> np.ndarray:
        """The place of a proposal in the unit cube."""
        point = np.full(self.size, 0.5)
        point[: len(self.floats)] = [d.to_unit(float(params[d.name])) for d in self.floats]
        return point

    def params(self, point: np.ndarray) -> Params:
        """The proposal at a place in the unit cube."""
        return {**self.fixed, **{d.name: d.from_unit(float(x)) for d, x in zip(self.floats, point, strict=False)}}

    def matches(self, params: Params) -> bool:
        """Whether a proposal belongs to this arm."""
        return all(params.get(name) == value for name, value in self.fixed.items())

    def optimizer(self, seed: int) -> cmaes.CMA:
        """CMA-ES as it stands after all whole generations; stragglers join the next generation."""
        mean = max(self.warm, key=lambda result: result[1])[0] if self.warm else np.full(self.size, 0.5)
        bounds = np.tile([0.0, 1.0], (self.size, 1))
        optimizer = cmaes.CMA(mean, SIGMA, bounds=bounds, seed=seed, population_size=self.population)
        for start in range(0, len(self.results) - self.population + 1, self.population):
            generation = self.results[start : start + self.population]
            order = sorted({worth for _, worth in generation}, reverse=True)
            optimizer.tell([(x, float(order.index(worth))) for x, worth in generation])  # CMA-ES uses ranks only
        return optimizer


class CmaesSampler:
    """See the module's text for how the budget is split over the arms."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.seed = seed
        self.arms = [arm for method in space.methods for arm in _arms(space, method)]

    def tell(self, observation: Observation) -> None:
        """Take in a finished candidate; a failed one is the worst of its generation."""
        arm = self._arm_of(observation.params)
        results = arm.warm if observation.warm_start else arm.results
        results.append((arm.point(observation.params), _worth(observation)))

    def ask(self, index: int, pending: Sequence[Params]) -> Params:
        """A draw from the distribution of the arm whose turn it is."""
        waiting = [0] * len(self.arms)
        for params in pending:
            waiting[self.arms.index(self._arm_of(params))] += 1
        arm = self._next_arm(waiting)
        return arm.params(arm.optimizer(derived_seed(self.seed, NAME, index)).ask())

    def _arm_of(self, params: Params) -> Arm:
        return next(arm for arm in self.arms if arm.matches(params))

    def _next_arm(self, waiting: Sequence[int]) -> Arm:
        counts = [len(arm.results) + more for arm, more in zip(self.arms, waiting, strict=True)]
        for arm, count in zip(self.arms, counts, strict=True):
            if count % arm.population:
                return arm
        generations = [count // arm.population for arm, count in zip(self.arms, counts, strict=True)]
        fewest = self.arms[generations.index(min(generations))]
        if min(generations) == 0 or sum(generations) % 2:
            return fewest
        return max(self.arms, key=lambda arm: arm.best)


def _worth(observation: Observation) -> Worth:
    if observation.value is None:
        return FAILED, 0.0
    if observation.violation > 0:
        return LIMITED, observation.value - observation.violation
    return GOOD, observation.value


def _arms(space: SearchSpace, method: str) -> list[Arm]:
    dimensions = space.dimensions(method)
    choices = [d for d in dimensions if isinstance(d, Choice)]
    floats = tuple(d for d in dimensions if isinstance(d, Float))
    if not floats:
        raise UserError(f"search.sampler: cmaes moves numbers, but {method} has none to search; use tpe")
    return [
        Arm({METHOD: method, **dict(zip((c.name for c in choices), options, strict=True))}, floats)
        for options in product(*(choice.options for choice in choices))
    ]


make = CmaesSampler

"""CMA-ES: one optimizer per arm, rebuilt from the observations at every ask.

An arm is a method with fixed choices (for example slerp of one pair of models), because CMA-ES optimizes numbers only.
Paper: Hansen 2016, The CMA evolution strategy: a tutorial, arXiv:1604.00772; the `cmaes` package implements it.

The budget is split by generations. A generation that has begun is completed first. The next one goes to an arm without
any, in the order of the space; after that, generations alternate between the arm with the best observation and the arm
with the fewest generations (the earlier arm on ties).

An ask repeats all finished generations of its arm, so its cost grows linearly with the arm's trials. Every generation
costs an eigendecomposition, which is cubic in the number of dimensions. In return no optimizer state has to be stored.
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
FAILED, INFEASIBLE, FEASIBLE = 0, 1, 2  # the classes of candidates, worst first
Fitness = tuple[int, float]  # (class, value); the violation is subtracted from the value of an infeasible candidate


@dataclass
class Arm:
    """One method with fixed choices; points lie in the unit cube of its numeric dimensions.

    `results` are the (point, fitness) pairs of proposals in the order in which they were reported, `warm` those of warm
    starts.
    """

    fixed: Params
    floats: tuple[Float, ...]
    warm: list[tuple[np.ndarray, Fitness]] = field(default_factory=list)
    results: list[tuple[np.ndarray, Fitness]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """The dimensions of the optimizer. CMA-ES needs two: a single number gets an unused companion."""
        return max(2, len(self.floats))

    @property
    def population(self) -> int:
        """Proposals per generation: 4 + floor(3 ln n), the tutorial's default."""
        return 4 + math.floor(3 * math.log(self.size))

    @property
    def best(self) -> Fitness:
        """The fitness of the best observation."""
        return max((fitness for _, fitness in (*self.warm, *self.results)), default=(FAILED, -math.inf))

    def point(self, params: Params) -> np.ndarray:
        """Return the point of a proposal in the unit cube, (size,) float64."""
        point = np.full(self.size, 0.5)
        point[: len(self.floats)] = [d.to_unit(float(params[d.name])) for d in self.floats]
        return point

    def params(self, point: np.ndarray) -> Params:
        """Return the proposal at a point of the unit cube."""
        return {**self.fixed, **{d.name: d.from_unit(float(x)) for d, x in zip(self.floats, point, strict=False)}}

    def matches(self, params: Params) -> bool:
        """Whether a proposal belongs to this arm."""
        return all(params.get(name) == value for name, value in self.fixed.items())

    def optimizer(self, seed: int) -> cmaes.CMA:
        """Return CMA-ES after all complete generations; late results count for the next generation."""
        mean = max(self.warm, key=lambda result: result[1])[0] if self.warm else np.full(self.size, 0.5)
        bounds = np.tile([0.0, 1.0], (self.size, 1))
        optimizer = cmaes.CMA(mean, SIGMA, bounds=bounds, seed=seed, population_size=self.population)
        for start in range(0, len(self.results) - self.population + 1, self.population):
            generation = self.results[start : start + self.population]
            order = sorted({fitness for _, fitness in generation}, reverse=True)
            optimizer.tell([(x, float(order.index(fitness))) for x, fitness in generation])  # CMA-ES uses ranks only
        return optimizer


class CmaesSampler:
    """See the module's docstring for how the budget is split over the arms."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.seed = seed
        self.arms = [arm for method in space.methods for arm in _arms(space, method)]

    def tell(self, observation: Observation) -> None:
        """Add a finished candidate; a failed one is the worst of its generation."""
        arm = self._arm_of(observation.params)
        results = arm.warm if observation.warm_start else arm.results
        results.append((arm.point(observation.params), _fitness(observation)))

    def ask(self, index: int, pending: Sequence[Params]) -> Params:
        """Return a sample from the distribution of the arm whose turn it is."""
        pending_counts = [0] * len(self.arms)
        for params in pending:
            pending_counts[self.arms.index(self._arm_of(params))] += 1
        arm = self._next_arm(pending_counts)
        return arm.params(arm.optimizer(derived_seed(self.seed, NAME, index)).ask())

    def _arm_of(self, params: Params) -> Arm:
        return next(arm for arm in self.arms if arm.matches(params))

    def _next_arm(self, pending_counts: Sequence[int]) -> Arm:
        counts = [len(arm.results) + pending for arm, pending in zip(self.arms, pending_counts, strict=True)]
        for arm, count in zip(self.arms, counts, strict=True):
            if count % arm.population:
                return arm
        generations = [count // arm.population for arm, count in zip(self.arms, counts, strict=True)]
        fewest = self.arms[generations.index(min(generations))]
        if min(generations) == 0 or sum(generations) % 2:
            return fewest
        return max(self.arms, key=lambda arm: arm.best)


def _fitness(observation: Observation) -> Fitness:
    if observation.value is None:
        return FAILED, 0.0
    if observation.violation > 0:
        return INFEASIBLE, observation.value - observation.violation
    return FEASIBLE, observation.value


def _arms(space: SearchSpace, method: str) -> list[Arm]:
    dimensions = space.dimensions(method)
    choices = [d for d in dimensions if isinstance(d, Choice)]
    floats = tuple(d for d in dimensions if isinstance(d, Float))
    if not floats:
        raise UserError(f"search.sampler: cmaes searches numbers only, but {method} has none; use tpe")
    return [
        Arm({METHOD: method, **dict(zip((c.name for c in choices), options, strict=True))}, floats)
        for options in product(*(choice.options for choice in choices))
    ]


make = CmaesSampler

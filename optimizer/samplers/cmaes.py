"""CMA-ES: one optimizer per arm, rebuilt from the observations at every ask.

An arm is a method with one setting of its choices, such as slerp of one pair of models: CMA-ES searches numbers only,
here the unit cube of the arm's coordinates. Paper: Hansen 2016, The CMA evolution strategy: a tutorial,
arXiv:1604.00772; the `cmaes` package implements it. Rebuilding takes time in proportion to the arm's observations:
about 0.1 ms each.

How the budget is split: a generation that has begun is completed first. The next one goes to an arm that has had none,
in the order of the space; once all arms have had one, generations alternate between the arm with the best observation
and the arm with the fewest generations (the earlier arm if several have equally few).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cmaes
import numpy as np

from mergesmith.errors import UserError

from ...search_spaces import METHOD, Coordinates, Params, SearchSpace
from .arms import Arms
from .sampler import Observation, Proposal, derived_seed

NAME = "cmaes"
SIGMA = 1 / 6  # of the range: Akiba et al. 2024 (arXiv:2403.13187)
FAILED, LIMITED, GOOD = 0, 1, 2  # ranks of outcomes, worst first
Worth = tuple[int, float]  # one of these, then the value (of a limited one minus its violation); compared in order


@dataclass
class Population:
    """The observations of one arm: (point, worth) of its proposals in the order of completion, and of warm starts."""

    arm: Coordinates
    warm: list[tuple[np.ndarray, Worth]] = field(default_factory=list)
    results: list[tuple[np.ndarray, Worth]] = field(default_factory=list)

    @property
    def dimension(self) -> int:
        """The dimension for CMA-ES, which needs at least two: a single number gets a second one that has no effect."""
        return max(2, len(self.arm.axes))

    @property
    def size(self) -> int:
        """Proposals per generation: 4 + floor(3 ln n), the tutorial's default."""
        return 4 + math.floor(3 * math.log(self.dimension))

    @property
    def best(self) -> Worth:
        """The worth of the best observation."""
        return max((worth for _, worth in (*self.warm, *self.results)), default=(FAILED, -math.inf))

    def add(self, observation: Observation, *, warm: bool) -> None:
        """Add a finished candidate of this arm; a failed one is the worst of its generation."""
        point = _padded(self.arm, observation.params, self.dimension)
        (self.warm if warm else self.results).append((point, _worth(observation)))

    def draw(self, seed: int) -> Params:
        """Draw a point from the distribution after all complete generations; later results count for the next one."""
        mean = max(self.warm, key=lambda result: result[1])[0] if self.warm else np.full(self.dimension, 0.5)
        bounds = np.tile([0.0, 1.0], (self.dimension, 1))
        mean = np.clip(mean, 1e-3, 1 - 1e-3)
        optimizer = cmaes.CMA(mean, SIGMA, bounds=bounds, seed=seed, population_size=self.size)
        for start in range(0, len(self.results) - self.size + 1, self.size):
            generation = self.results[start : start + self.size]
            order = sorted({worth for _, worth in generation}, reverse=True)
            optimizer.tell([(x, float(order.index(worth))) for x, worth in generation])  # CMA-ES uses ranks only
        return self.arm.params(optimizer.ask()[: len(self.arm.axes)])


class CmaesSampler:
    """CMA-ES on every arm; the module's docstring describes how the budget is split over the arms."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.arms, self.seed = Arms(space), seed
        for arm in self.arms.all:
            if not arm.axes:
                raise UserError(
                    f"search.sampler: cmaes moves numbers, but {arm.choices[METHOD]} has none to search; use tpe"
                )
        self.populations = {arm: Population(arm) for arm in self.arms.all}

    def tell(self, observation: Observation) -> None:
        """Add a finished candidate."""
        if observation.params and not observation.probe:
            self.populations[self.arms.of(observation.params)].add(observation, warm=observation.warm_start)

    def ask(self, index: int, pending: Sequence[Proposal]) -> Proposal:
        """Return a draw from the distribution of the arm whose turn it is."""
        waiting = dict.fromkeys(self.arms.all, 0)
        for proposal in pending:
            waiting[self.arms.of(proposal.params)] += 1
        population = self._next(waiting)
        return Proposal(population.draw(derived_seed(self.seed, NAME, index)))

    def _next(self, waiting: dict[Coordinates, int]) -> Population:
        populations = list(self.populations.values())
        counts = [len(p.results) + waiting[p.arm] for p in populations]
        for population, count in zip(populations, counts, strict=True):
            if count % population.size:
                return population
        generations = [count // p.size for p, count in zip(populations, counts, strict=True)]
        fewest = populations[generations.index(min(generations))]
        if min(generations) == 0 or sum(generations) % 2:
            return fewest
        return max(populations, key=lambda population: population.best)


def ask_arm(arm: Coordinates, told: Iterable[Observation], first: Params, seed: int) -> Params:
    """Return a draw for one arm whose optimizer starts at the best point `first`, from the observations of the arm."""
    population = Population(arm)
    population.warm.append((_padded(arm, first, population.dimension), (GOOD, math.inf)))
    for observation in told:
        if observation.params and not observation.probe and arm.matches(observation.params):
            population.add(observation, warm=False)
    return population.draw(seed)


def _padded(arm: Coordinates, params: Params, size: int) -> np.ndarray:
    point = np.full(size, 0.5)
    point[: len(arm.axes)] = arm.point(params)
    return point


def _worth(observation: Observation) -> Worth:
    if observation.value is None:
        return FAILED, 0.0
    if observation.violation > 0:
        return LIMITED, observation.value - observation.violation
    return GOOD, observation.value


make = CmaesSampler

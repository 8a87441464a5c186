"""Gaussian processes, one per arm. They use the standard error of every score, so dropped candidates count little.

Each arm begins with draws from its prior. After that, a proposal is the point of the highest expected improvement over
the arms with the best candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...search_spaces import Coordinates, Params, SearchSpace
from .arms import Arms
from .gp_model import Data, GaussianProcess
from .sampler import Observation, Proposal, derived_seed

NAME = "gp"
FIRST = 3  # draws per arm before its process is used
MOST_FIRST = 24  # such draws over all arms
RIVALS = 3  # arms whose expected improvements are compared
EXPLORE = 10  # every tenth proposal is a draw from the prior
UNKNOWN_ERROR = 0.05  # assumed standard error of a score without one


class GPSampler:
    """One Gaussian process per arm, fitted to all observations at every ask, in under a second."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.arms, self.seed = Arms(space), seed
        self.told: list[Observation] = []

    def tell(self, observation: Observation) -> None:
        """Add a finished candidate."""
        if observation.params:
            self.told.append(observation)

    def ask(self, index: int, pending: Sequence[Proposal]) -> Proposal:
        """Return the point of the highest expected improvement among the best arms."""
        seed = derived_seed(self.seed, NAME, index)
        rng = np.random.Generator(np.random.PCG64(seed))
        points = [*(o.params for o in self.told if o.params and not o.warm_start), *(p.params for p in pending)]
        first = self._beginner(points)
        if first is not None:
            return Proposal(first.params(rng.random(len(first.axes))))
        arms = self._rivals()
        if not arms or index % EXPLORE == EXPLORE - 1:
            return Proposal(self.arms.draw(rng))
        return Proposal(most_promising(arms, self.told, [p.params for p in pending], seed))

    def _beginner(self, points: Sequence[Params]) -> Coordinates | None:
        """Return the arm that needs another draw from its prior, or None; methods take turns, then their arms."""
        counts = {arm: sum(arm.matches(params) for params in points) for arm in self.arms.all}
        if len(points) >= MOST_FIRST:
            return None
        per_method = {m: sum(counts[arm] for arm in arms) for m, arms in self.arms.by_method.items()}
        method = min(per_method, key=lambda name: per_method[name])
        if per_method[method] >= FIRST:
            return None
        return min(self.arms.by_method[method], key=lambda arm: counts[arm])

    def _rivals(self) -> list[Coordinates]:
        best: dict[Coordinates, float] = {}
        for observation in self.told:
            if observation.value is not None and observation.violation == 0 and observation.params:
                arm = self.arms.of(observation.params)
                best[arm] = max(best.get(arm, observation.estimate), observation.estimate)
        usable = [arm for arm in best if arm.axes and len(arm_data(arm, self.told).values) > 1]
        return sorted(usable, key=lambda arm: -best[arm])[:RIVALS]


def most_promising(
    arms: Sequence[Coordinates], told: Sequence[Observation], pending: Sequence[Params], seed: int
) -> Params:
    """Return the point of the highest expected improvement over several arms."""
    found: list[tuple[float, Params]] = []
    for arm in arms:
        waiting = np.array([arm.point(params) for params in pending if arm.matches(params)])
        process = GaussianProcess(arm_data(arm, told), seed)
        point, worth = process.propose(waiting.reshape(-1, len(arm.axes)))
        found.append((worth, arm.params(point)))
    return max(found, key=lambda pair: pair[0])[1]


def arm_data(arm: Coordinates, told: Sequence[Observation]) -> Data:
    """Return the observations of an arm; a candidate's violations of limits are subtracted from its value."""
    rows = [
        (arm.point(o.params), o.estimate - o.violation, o.stderr if np.isfinite(o.stderr) else UNKNOWN_ERROR)
        for o in told
        if o.params and o.value is not None and not o.probe and arm.matches(o.params)
    ]
    points = np.array([point for point, _, _ in rows]).reshape(len(rows), len(arm.axes))
    return Data(points, np.array([value for _, value, _ in rows]), np.array([error for _, _, error in rows]))


make = GPSampler

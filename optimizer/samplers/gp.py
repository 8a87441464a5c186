"""Gaussian processes, one per group of arms, that know every candidate's standard error: dropped ones count little.

An arm begins with draws from its prior; then the groups with the best candidates compete by expected improvement.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ...search_spaces import Coordinates, Params, SearchSpace
from .arms import Arms
from .candidates import candidates, distinct
from .gp_model import Data, GaussianProcess
from .landscape import Group, groups_of
from .sampler import Observation, Proposal, derived_seed

NAME = "gp"
FIRST = 3  # draws per arm before its process is used
MOST_FIRST = 24  # of such draws in all
RIVALS = 3  # groups whose processes are compared
TOP, CANDIDATES = 8, 320  # points around which candidates are drawn, and their number
EXPLORE = 10  # one in so many proposals is a draw from the prior
LEAST_SHARE = 0.25  # of a baseline's standard error: no difference between candidates is known better
UNKNOWN_ERROR = 0.05  # the standard error that is assumed where none is known


class GPSampler:
    """Keeps the observations; processes are fitted anew at every ask, in under a second."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.arms, self.seed = Arms(space), seed
        self.groups = groups_of(self.arms)
        self.told: list[Observation] = []

    def tell(self, observation: Observation) -> None:
        """Add a finished candidate."""
        if not observation.probe:
            self.told.append(observation)

    def ask(self, index: int, pending: Sequence[Proposal]) -> Proposal:
        """Return the point of the highest expected improvement among the best groups of arms."""
        seed = derived_seed(self.seed, NAME, index)
        rng = np.random.Generator(np.random.PCG64(seed))
        points = [*(o.params for o in self.told if o.params and not o.warm_start), *(p.params for p in pending)]
        first = self._beginner(points)
        if first is not None:
            return Proposal(first.params(rng.random(len(first.axes))))
        groups = best_groups(self.groups, self.told, RIVALS)
        if not groups or index % EXPLORE == EXPLORE - 1:
            return Proposal(self.arms.draw(rng))
        return Proposal(Landscape(groups, self.told, [p.params for p in pending], seed).most_promising())

    def _beginner(self, points: Sequence[Params]) -> Coordinates | None:
        """Return the arm with the fewest points; None once all have enough. Methods take turns, not arms."""
        counts = {arm: sum(arm.matches(params) for params in points) for arm in self.arms.all}
        if len(points) >= MOST_FIRST:
            return None
        per_method = {m: sum(counts[arm] for arm in arms) for m, arms in self.arms.by_method.items()}
        method = min(per_method, key=lambda name: per_method[name])
        if per_method[method] >= FIRST:
            return None
        return min(self.arms.by_method[method], key=lambda arm: counts[arm])


def best_groups(groups: Sequence[Group], told: Sequence[Observation], most: int) -> list[Group]:
    """Return the groups with the best candidates, those with two different points at least."""
    best: dict[Group, float] = {}
    for group in groups:
        values = [o.feasible_value for o in told if o.params and group.arm_of(o.params)]
        points = {tuple(group.features(p)) for o in told if o.value is not None and (p := group.params_of(o))}
        if len(points) > 1 and max(values, default=-math.inf) > -math.inf:
            best[group] = max(values)
    return sorted(best, key=lambda group: -best[group])[:most]


class Landscape:
    """The processes of several groups, and candidates near their best points."""

    def __init__(
        self, groups: Sequence[Group], told: Sequence[Observation], pending: Sequence[Params], seed: int
    ) -> None:
        self.told = told
        self.seed = seed
        self.processes = {group: GaussianProcess(group_data(group, told), seed) for group in groups}
        self.pending = {group: _features(group, [p for p in pending if group.arm_of(p)]) for group in groups}
        self.candidates = {group: self._candidates(group) for group in groups}

    def most_promising(self) -> Params:
        """Return the candidate of the highest expected improvement."""
        return self._best({group: self._improvements(group) for group in self.processes})

    def best_expected(self) -> Params:
        """Return the candidate of the highest expected value."""
        found = {g: process.means(_features(g, self.candidates[g])) for g, process in self.processes.items()}
        return self._best(found)

    def chance(self, threshold: float) -> float:
        """Return the largest probability of a candidate to exceed all known points by more than `threshold`."""
        chances = (
            process.gains(_features(group, self.candidates[group]), threshold, self._level(group)).max(initial=0.0)
            for group, process in self.processes.items()
        )
        return max(map(float, chances), default=0.0)

    def _best(self, worth: Mapping[Group, np.ndarray]) -> Params:
        group = max(worth, key=lambda g: worth[g].max())
        return self.candidates[group][int(np.argmax(worth[group]))]

    def _improvements(self, group: Group) -> np.ndarray:
        points = _features(group, self.candidates[group])
        return self.processes[group].improvements(points, self.pending[group], self._level(group))

    def _level(self, group: Group) -> float:
        """Return the highest expected value of a known point of the other groups."""
        others = (process for other, process in self.processes.items() if other is not group)
        return max((float(process.means(process.data.points).max()) for process in others), default=-math.inf)

    def _candidates(self, group: Group) -> list[Params]:
        """Return distinct variations of the group's best points; draws from the prior if there are none."""
        rng = np.random.Generator(np.random.PCG64(derived_seed(self.seed, "candidates", *group.names)))
        process = self.processes[group]
        known = [p for o in self.told if o.feasible_value > -math.inf and (p := group.params_of(o)) is not None]
        means = process.means(_features(group, known))
        best = [known[i] for i in np.argsort(-means, kind="stable")[:TOP]]
        found = candidates(group, best, rng, CANDIDATES)
        taken = np.concatenate([process.data.points, self.pending[group]])
        kept = distinct(_features(group, found), taken)
        return [found[i] for i in kept] or found


def group_data(group: Group, told: Sequence[Observation]) -> Data:
    """Collect the observations of a group; candidates beyond a limit count as worse by what they exceed it by."""
    rows = [
        (group.features(params), o.estimate - o.violation, o.stderr if np.isfinite(o.stderr) else UNKNOWN_ERROR)
        for o in told
        if o.value is not None and not o.probe and (params := group.params_of(o)) is not None
    ]
    baseline = [o.stderr for o in told if o.warm_start and np.isfinite(o.stderr)]
    least = LEAST_SHARE * float(np.median(baseline)) if baseline else 0.0
    points = np.array([point for point, _, _ in rows]).reshape(len(rows), group.size)
    errors = np.array([max(error, least) for _, _, error in rows])
    return Data(points, np.array([value for _, value, _ in rows]), errors)


def _features(group: Group, points: Sequence[Params]) -> np.ndarray:
    return np.array([group.features(params) for params in points]).reshape(len(points), group.size)


make = GPSampler

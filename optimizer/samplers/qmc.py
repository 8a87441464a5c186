"""Scrambled Sobol points: a control that fills the space more evenly than independent draws.

Paper: Owen 1998, Scrambling Sobol' and Niederreiter-Xing points, J. Complexity 14; scipy generates the sequence.
"""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import qmc

from ...search_spaces import SearchSpace
from .arms import Arms
from .sampler import Observation, Proposal, derived_seed

NAME = "qmc"


class QMCSampler:
    """Sobol points: the first coordinate selects the method, the second its choices, the others are the numbers."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.arms = Arms(space)
        size = 2 + max(len(arm.axes) for arm in self.arms.all)
        self._engine, self._next = qmc.Sobol(size, scramble=True, rng=derived_seed(seed, NAME)), 0

    def tell(self, observation: Observation) -> None:
        """Ignore the observation: the points are fixed in advance."""

    def ask(self, index: int, pending: Sequence[Proposal]) -> Proposal:
        """Return the point at `index` of the sequence."""
        if index < self._next:
            self._engine.reset()
            self._next = 0
        if index > self._next:
            self._engine.fast_forward(index - self._next)
        self._next = index + 1
        point = self._engine.random(1)[0]
        arms = _pick(list(self.arms.by_method.values()), point[0])
        arm = _pick(arms, point[1])
        return Proposal(arm.params(point[2 : 2 + len(arm.axes)]))


def _pick(options: Sequence, quantile: float):  # noqa: ANN202 (one of the options)
    return options[min(len(options) - 1, int(quantile * len(options)))]


make = QMCSampler

"""Independent draws from the prior: the control that every other sampler has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...search_spaces import SearchSpace
from .arms import Arms
from .sampler import Observation, Proposal, derived_seed

NAME = "random"


class RandomSampler:
    """Independent draws of a method, its choices and its numbers from the prior."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.arms, self.seed = Arms(space), seed

    def tell(self, observation: Observation) -> None:
        """Ignore the observation: draws are independent."""

    def ask(self, index: int, pending: Sequence[Proposal]) -> Proposal:
        """Return a draw that depends on the seed and the index alone."""
        rng = np.random.Generator(np.random.PCG64(derived_seed(self.seed, NAME, index)))
        return Proposal(self.arms.draw(rng))


make = RandomSampler

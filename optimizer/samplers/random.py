"""Independent uniform draws: the baseline for every other sampler."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...search_spaces import METHOD, Choice, Dimension, Params, SearchSpace, Value
from .sampler import Observation, derived_seed

NAME = "random"


class RandomSampler:
    """Draws the method, then each of its dimensions, uniformly (on a log scale if the dimension has one)."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space, self.seed = space, seed

    def tell(self, observation: Observation) -> None:
        """Ignore the observation."""

    def ask(self, index: int, pending: Sequence[Params]) -> Params:
        """Return a sample that depends only on the seed and the index."""
        rng = np.random.Generator(np.random.PCG64(derived_seed(self.seed, NAME, index)))
        method = str(_draw(self.space.root, rng))
        return {METHOD: method, **{d.name: _draw(d, rng) for d in self.space.dimensions(method)}}


def _draw(dimension: Dimension, rng: np.random.Generator) -> Value:
    if isinstance(dimension, Choice):
        return dimension.options[int(rng.integers(len(dimension.options)))]
    return dimension.from_unit(float(rng.random()))


make = RandomSampler

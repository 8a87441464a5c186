"""The candidate in the live model: merges a recipe into the model in memory and scores it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from ...evaluators import Block, BlockScores, Part, Scores, Suite, join
from ...merge_ops import LiveModel, Recipe, WeightsDigest


class LiveCandidate:
    """Merges recipes into `live`, one after another, and scores them on the tasks of `suite`."""

    def __init__(self, live: LiveModel, suite: Suite) -> None:
        self.live, self.suite = live, suite
        self._loads = 0  # identifies the weights that the live model holds now

    def load(self, recipe: Recipe, *, digest: WeightsDigest | None = None) -> Any:
        """Merge a recipe into the live model and return the model; `digest` is updated with the weights.

        Raises:
            MergeError: the recipe's parameter values define no tensor.
        """
        self._loads += 1
        self.live.load(recipe, digest=digest)
        return self.live.model

    def timed_load(self, recipe: Recipe, *, digest: WeightsDigest | None = None) -> float:
        """Merge a recipe into the live model and return the time in seconds; raises as `load`."""
        start = time.perf_counter()
        self.load(recipe, digest=digest)
        for device in self.live.devices:
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # kernels run asynchronously
        return time.perf_counter() - start

    def blocks(self, part: Part) -> Iterator[BlockScores]:
        """Score the merged model on a part, block by block; raises as `score`."""
        return self.score(self.suite.blocks(part))

    def score(self, blocks: Iterable[Block]) -> Iterator[BlockScores]:
        """Score the merged model on these blocks, one after another.

        Raises:
            ScoringError: the merged model cannot be scored.
        """
        for block in blocks:
            yield self.suite.score(self.live.model, block, weights=self._loads)

    def evaluate(self, recipe: Recipe, part: Part) -> Scores:
        """Merge a recipe and score it on a whole part; raises as `load` and `blocks`."""
        self.load(recipe)
        return join(list(self.blocks(part)))

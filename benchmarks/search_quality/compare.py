"""Comparisons with the best baseline, with intervals that include the noise of the items.

The best baseline in hindsight is flattered: among baselines that are about equally good, it is the one that is lucky on
these items. Cross-fitting avoids this: the baseline is chosen on one half of the unseen items and compared on the
other, both ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mergesmith.evaluators import Scores

from .measure import baseline_recipes
from .truth import UNSEEN, Truth, pooled, recipe_digest

SPLITS = 40  # random halves that a cross-fitted value is the mean over
RESAMPLES = 200
NORMAL_95 = 1.96  # standard deviations to either side of a 95 % interval
WHOLE = 2  # place of the values on all items, after those on the two halves


@dataclass(frozen=True)
class Difference:
    """A mean difference of true scores, and half the width of its 95 % interval."""

    value: float
    half: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} ± {self.half:.3f}"


class Comparison:
    """Differences between recipes and the baselines of one problem on its unseen items.

    The values are arrays of shape (draws, 3, recipes): on one half, on the other half and on all items of a draw. A
    draw halves the items at random, task by task; a bootstrap draw also resamples them within each half, identically
    for all recipes.
    """

    def __init__(self, truth: Truth, digests: Sequence[str]) -> None:
        """`digests`: of the recipes that are compared with the baselines; all have been scored."""
        recipes = baseline_recipes(truth)
        for recipe in recipes:
            truth.value(recipe)  # scores it if need be
        baselines = dict.fromkeys(map(recipe_digest, recipes))
        columns = [*baselines, *(digest for digest in dict.fromkeys(digests) if digest not in baselines)]
        self._column = {digest: i for i, digest in enumerate(columns)}
        self._baselines = len(baselines)
        scores = [pooled([truth.stored(digest, part) for part in UNSEEN]) for digest in columns]
        self._split = _values(truth, scores, draws=SPLITS, resampled=False)
        self._boot = _values(truth, scores, draws=RESAMPLES, resampled=True)

    def hindsight(self, digests: Sequence[str]) -> Difference:
        """Return the mean over searches of their last incumbents, less the baseline with the best true score."""
        best = int(self._split[0, WHOLE, : self._baselines].argmax())
        return self._mean(digests, *(v[:, WHOLE] - v[:, WHOLE, [best]] for v in (self._split, self._boot)))

    def cross_fitted(self, digests: Sequence[str]) -> Difference:
        """Return the mean over searches of their last incumbents, less the cross-fitted best baseline."""
        return self._mean(digests, self._crossed(self._split), self._crossed(self._boot))

    def item_noise(self) -> float:
        """Return half of a 95 % interval, over items, of a typical difference between two recipes.

        It is the median over the recipes that are compared with the best baseline; NaN if they all equal it.
        """
        best = int(self._split[0, WHOLE, : self._baselines].argmax())
        spread = (self._boot[:, WHOLE] - self._boot[:, WHOLE, [best]]).std(axis=0, ddof=1)
        differing = spread[spread > 0]
        return NORMAL_95 * float(np.median(differing)) if len(differing) else float("nan")

    def _crossed(self, values: np.ndarray) -> np.ndarray:
        draws = np.arange(len(values))
        ways = []
        for chosen_on, scored_on in ((0, 1), (1, 0)):
            best = values[:, chosen_on, : self._baselines].argmax(axis=1)
            ways.append(values[:, scored_on] - values[draws, scored_on, best][:, None])
        return (ways[0] + ways[1]) / 2

    def _mean(self, digests: Sequence[str], split: np.ndarray, boot: np.ndarray) -> Difference:
        """Average (draws, recipes) differences over the searches; bootstrap draws resample the searches, too."""
        columns = np.array([self._column[digest] for digest in digests])
        rng = np.random.Generator(np.random.PCG64(1))
        searches = rng.integers(0, len(columns), (len(boot), len(columns)))
        means = np.take_along_axis(boot, columns[searches], axis=1).mean(axis=1)
        return Difference(float(split[:, columns].mean()), NORMAL_95 * float(means.std(ddof=1)))


def _values(truth: Truth, scores: Sequence[Scores], *, draws: int, resampled: bool) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(0))
    sizes = {leaf: len(items.ids) for leaf, items in scores[0].items.items()}
    found = np.empty((draws, 3, len(scores)))
    for draw in range(draws):
        halves = _halves(sizes, rng, resampled=resampled)
        whole = {leaf: np.concatenate([half[leaf] for half in halves]) for leaf in sizes}
        for place, chosen in enumerate((*halves, whole)):
            found[draw, place] = [truth.objective_value(one, chosen) for one in scores]
    return found


def _halves(
    sizes: Mapping[str, int], rng: np.random.Generator, *, resampled: bool
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    halves: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
    for leaf, size in sizes.items():
        order = rng.permutation(size)
        for half, items in zip(halves, (order[: size // 2], order[size // 2 :]), strict=True):
            half[leaf] = rng.choice(items, len(items)) if resampled else items
    return halves

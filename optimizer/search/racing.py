"""Racing: a candidate is dropped once its paired differences from the incumbent show that it is worse.

    d_i       score of item i, candidate minus incumbent, positive if the candidate is better; in [-1, 1]
    a_k       weight of an item of leaf k, such that the mean of x_i = a_k d_i over all items is the difference of the
              two objectives
    lambda_j  bets, fixed in advance, with lambda_j max(a_k) < 1
    v_j       their shares of the initial wealth, which sum to 1

    W = sum_j v_j prod_i (1 - lambda_j x_i)

W is the wealth of a gambler who starts with 1 and bets that the candidate is worse. If it is not worse, W is a
supermartingale, so the probability that it ever reaches 1 / alpha is at most alpha (Ville 1939; Ramdas et al. 2023,
doi:10.1214/23-STS894). Wealth by betting on a bounded mean: Waudby-Smith and Ramdas 2024, Estimating means of bounded
random variables by betting, doi:10.1093/jrsssb/qkad009. There, bets adapt item by item. Here, they are a mixture fixed
in advance, and W is compared with the threshold only after whole blocks: the items of a block are ordered by task, so
bets that adapt within a block would follow the tasks, not the candidate. Over a whole block, with each task in its
proportion, the product of the expected factors is at most 1 by the inequality of arithmetic and geometric means,
however much the tasks differ. Proportions are kept to within one item per task. If there are more tasks than items in a
block (a group of many leaves), some tasks are missing from it: then the bound holds on average over the random starting
points of the tasks, not for each layout.

The bound is for an incumbent fixed before its items were seen. The best candidate so far was chosen by these same
items, so its score on them is biased upwards; benchmarks/racing.py measures the effect. When another candidate becomes
the incumbent, the wealth is kept and the next blocks are compared with the new one. The hypothesis rejected at 1 /
alpha is then "as good as each incumbent that it was compared with", and incumbents only get better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...evaluators import BlockScores, Score, Scores, TaskEntry, entry_score
from ..config import RacingSection
from ..run_folder.item_matrix import difference
from ..run_folder.trial import Look, Trial

# Chosen with benchmarks/racing.py: 0.6 detects poor candidates, 0.4 slightly worse ones, and 0.1 is for races over
# thousands of items.
BETS = (0.1, 0.4, 0.6)
SHARES = (0.1, 0.5, 0.4)
LARGEST_LOSS = 0.9  # the largest share of a bet's wealth that one item can cost
UNSEEN_ERROR = 0.1  # assumed standard error of the difference in an entry without items so far
PRIOR_ITEMS = 50  # a dropped candidate's difference is shrunk as if this many more items had a difference of 0


def why_off(rule: RacingSection, entries: Sequence[TaskEntry]) -> str | None:
    """Return why candidates cannot be raced; None if they can."""
    if rule.rule == "off":
        return "search.racing is off"
    for entry in entries:
        if entry.python:
            return f"'{entry.name}' is a Python objective, whose items are scored all at once and have no known bounds"
        if not entry.bounded:
            return f"'{entry.name}' has no bounds per item (its metric is {entry.metric})"
    return None


def item_weights(entries: Sequence[TaskEntry], counts: Mapping[str, int]) -> dict[str, float]:
    """Return leaf -> a_k times the entry's sign (-1 if lower is better); `counts`: leaf -> items of the whole part."""
    total_items = sum(counts.values())
    weight = sum(entry.weight for entry in entries)
    found: dict[str, float] = {}
    for entry in entries:
        present = [leaf for leaf in entry.leaves if counts.get(leaf.name)]
        shares = sum(leaf.share for leaf in present)
        for leaf in present:
            part = entry.sign * entry.weight / weight * leaf.share / shares
            found[leaf.name] = part * total_items / counts[leaf.name]
    return found


class Wealth:
    """The logarithm of the wealth of a mixture of bets that the mean of x is negative."""

    def __init__(self, largest: float) -> None:
        """`largest`: the greatest |x| that an item can have."""
        self.bets = np.minimum(BETS, LARGEST_LOSS / largest)
        self.logs = np.log(SHARES)

    def bet(self, x: np.ndarray) -> float:
        """Bet on the items of a block, x of shape (n,) in any order; return the natural logarithm of the wealth."""
        self.logs = self.logs + np.log1p(-np.outer(self.bets, x)).sum(axis=1)
        return float(np.logaddexp.reduce(self.logs))


@dataclass(frozen=True)
class Incumbent:
    """The candidate that others are compared with: its trial, scored in full, and its item scores."""

    trial: Trial
    scores: Scores
    entries: tuple[TaskEntry, ...]

    @cached_property
    def items(self) -> int:
        """The number of items of all tasks."""
        return sum(len(items.ids) for items in self.scores.items.values())

    @cached_property
    def weights(self) -> Mapping[str, float]:
        """Leaf -> signed a_k."""
        return item_weights(self.entries, {leaf: len(items.ids) for leaf, items in self.scores.items.items()})

    @cached_property
    def _places(self) -> Mapping[str, Mapping[str, int]]:
        return {leaf: {item: i for i, item in enumerate(found.ids)} for leaf, found in self.scores.items.items()}

    def weighted(self, block: BlockScores) -> np.ndarray:
        """Return the weighted differences x of a block's items, (n,)."""
        differences = []
        for leaf, items in block.items.items():
            same = self.scores.items[leaf].values[[self._places[leaf][item] for item in items.ids]]
            differences.append(self.weights[leaf] * (items.values - same))
        return np.concatenate(differences)

    def differences(self, scores: Scores) -> dict[str, Score]:
        """Return entry name -> mean paired difference of a candidate from this one.

        An entry without items so far has difference 0 with the standard error UNSEEN_ERROR.
        """
        paired = difference(scores, self.scores)
        return {
            entry.name: entry_score(entry, paired)
            if any(leaf.name in paired.items for leaf in entry.leaves)
            else Score(0.0, UNSEEN_ERROR, 0)
            for entry in self.entries
        }

    def estimate(self, scores: Scores) -> dict[str, Score]:
        """Return an estimate of a candidate's scores over all items from the n items scored.

            incumbent's score + n / (n + 50) * mean paired difference

        The standard error is that of the second term. An entry without items so far gets the incumbent's value.
        """
        differences = difference(scores, self.scores)
        n = sum(len(items.ids) for items in differences.items.values())
        trust = n / (n + PRIOR_ITEMS)
        found: dict[str, Score] = {}
        for entry in self.entries:
            full = self.trial.scores[entry.name].value
            if any(leaf.name in differences.items for leaf in entry.leaves):
                d = entry_score(entry, differences)
                found[entry.name] = Score(full + trust * d.value, trust * d.stderr, d.n)
            else:
                found[entry.name] = Score(full, math.nan, 0)
        return found


class Race:
    """The racing state of one candidate.

    Attributes:
        items: the number of its items that have been scored.
        looks: the decisions after each block so far.
        lost_to: the incumbent that it was compared with when it was dropped; else None.
    """

    def __init__(self, rule: RacingSection) -> None:
        self.rule = rule
        self.looks: list[Look] = []
        self.lost_to: Incumbent | None = None
        self._wealth: Wealth | None = None
        self.items = 0
        self._compared = 0  # number of items scored while there was an incumbent

    def goes_on(self, block: BlockScores, incumbent: Incumbent | None) -> bool:
        """Add a block; return whether to continue scoring the candidate, which is always so without an incumbent."""
        self.items += sum(len(items.ids) for items in block.items.values())
        if incumbent is None:
            return True
        if self._wealth is None:
            self._wealth = Wealth(max(abs(a) for a in incumbent.weights.values()))
        x = incumbent.weighted(block)
        self._compared += len(x)
        wealth = self._wealth.bet(x)
        decided = self._compared >= self.rule.min_items and wealth >= -math.log(self.rule.alpha)
        drop = decided and self.items < incumbent.items  # dropping after the last block would save nothing
        self.looks.append(Look(self.items, incumbent.trial.number, round(wealth, 6), drop))
        if drop:
            self.lost_to = incumbent
        return not drop

"""Racing: a candidate is dropped once its paired differences show that it does not gain on the incumbent.

The claim that is tested is that its score over all search items would be at least `least gain` above the incumbent's;
`wealth.py` has the test. The items are those of the raced tasks, which have a weight and values in [0, 1]; the others,
such as perplexities, are scored after them, for candidates that survive (`TaskEntry.raced`). The least gain is what the
select items can tell, so that two kinds of candidates are dropped by one rule: those that are worse, after a few items,
and those that are within noise of the incumbent, later.

    d_i    score of item i, candidate minus incumbent, positive if the candidate is better; in [-1, 1]
    a_k    weight of an item of leaf k, such that the mean of x_i = a_k d_i over all items is the difference of the two
           objectives, if these have no other tasks than the raced ones
    delta  least_gain * sd(x) * sqrt((search items / select items) / search items), the standard error of such a
           difference on the select items; sd(x) from the items scored so far, so 0 before the first block

Items on which neither candidate has a value of the metric are no items of the race. If only one of them has a value,
the mean of the differences is no longer that of the objectives: then the candidate is scored in full.

When another candidate becomes the incumbent, the wealth is kept: from the next block on, the bets are on the
differences from the new one, on all items so far. The claim that is rejected at 1 / alpha is then that the candidate
gains on every incumbent that it was compared with, and incumbents only get better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ...evaluators import BlockScores, Score, Scores, TaskEntry, entry_score
from ..config import RacingSection
from ..run_folder.item_matrix import difference, shared
from ..run_folder.trial import Look, Trial
from .objective import paired_difference
from .wealth import Wealth

UNSEEN_ERROR = 0.1  # the standard error that is assumed of the difference in an entry without items so far
PRIOR_ITEMS = 50  # a dropped candidate's difference is shrunk as if this many more items had shown none


def why_off(rule: RacingSection, entries: Sequence[TaskEntry]) -> str | None:
    """Return why candidates cannot be raced; None if they can."""
    if rule.rule == "off":
        return "search.racing is off"
    if any(entry.raced for entry in entries):
        return None
    kinds = [f"'{e.name}' ({'a Python objective' if e.python else e.metric})" for e in entries if e.weight > 0]
    return f"no task with a weight has known bounds per item: {', '.join(kinds)}"


def item_weights(entries: Sequence[TaskEntry], counts: Mapping[str, int]) -> dict[str, float]:
    """Return leaf -> a_k times the entry's sign (-1 if lower is better), of raced entries.

    `counts`: leaf of such an entry -> its items in the whole part.
    """
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


@dataclass(frozen=True)
class Incumbent:
    """The candidate that others are compared with: its trial, scored in full, and its item scores."""

    trial: Trial
    scores: Scores
    entries: tuple[TaskEntry, ...]

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Leaf -> the number of its items that have a value."""
        return {leaf: int(items.known.sum()) for leaf, items in self.scores.items.items()}

    @cached_property
    def items(self) -> int:
        """The number of items of the raced tasks that have a value."""
        return sum(self.counts[leaf] for leaf in self.weights)

    @cached_property
    def weights(self) -> Mapping[str, float]:
        """Raced leaf -> signed a_k."""
        raced = [entry for entry in self.entries if entry.raced]
        leaves = [leaf.name for entry in raced for leaf in entry.leaves if self.counts.get(leaf.name)]
        return item_weights(raced, {leaf: self.counts[leaf] for leaf in leaves})

    @cached_property
    def all_items(self) -> int:
        """The number of items of all tasks."""
        return sum(len(items.ids) for items in self.scores.items.values())

    @cached_property
    def _places(self) -> Mapping[str, Mapping[str, int]]:
        return {leaf: {item: i for i, item in enumerate(found.ids)} for leaf, found in self.scores.items.items()}

    def weighted(self, block: BlockScores) -> np.ndarray:
        """Return the weighted differences x of a block's items that have a value, (n,).

        NaN for items on which only one of the two candidates has a value.
        """
        differences = []
        for leaf, items in block.items.items():
            same = self.scores.items[leaf].values[[self._places[leaf][item] for item in items.ids]]
            counted = items.known | ~np.isnan(same)
            differences.append(self.weights.get(leaf, 0.0) * (items.values - same)[counted])
        return np.concatenate(differences)

    def differences(self, scores: Scores) -> dict[str, Score]:
        """Return entry name -> paired difference of a candidate from this one.

        An entry without items so far has difference 0. Its standard error is UNSEEN_ERROR, relative to this candidate's
        value if the entry is not bounded.
        """
        ours, theirs = shared(scores, self.scores)
        return {entry.name: self._difference(entry, ours, theirs) for entry in self.entries}

    def _difference(self, entry: TaskEntry, ours: Scores, theirs: Scores) -> Score:
        if not any(leaf.name in ours.items for leaf in entry.leaves):
            scale = 1.0 if entry.bounded else abs(self.trial.scores[entry.name].value)
            return Score(0.0, UNSEEN_ERROR * scale, 0)
        if entry.bounded:
            return entry_score(entry, difference(ours, theirs))
        found = paired_difference(entry, ours, theirs)  # such values as perplexities are not means over items
        return replace(found, value=entry.sign * found.value)

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

    def __init__(self, rule: RacingSection, *, search_per_select: float) -> None:
        """`search_per_select`: how many search items there are for each select item."""
        self.rule, self.search_per_select = rule, search_per_select
        self.looks: list[Look] = []
        self.lost_to: Incumbent | None = None
        self.items = 0
        self._blocks: list[BlockScores] = []
        self._wealth: Wealth | None = None

    def goes_on(self, block: BlockScores, incumbent: Incumbent | None) -> bool:
        """Add a block; return whether to score the candidate further.

        Without an incumbent, and after a block of tasks that are not raced, it always continues.
        """
        self.items += sum(len(items.ids) for items in block.items.values())
        if incumbent is not None and not block.items.keys() & incumbent.weights.keys():
            return True
        self._blocks.append(block)
        if incumbent is None:
            return True
        if self._wealth is None:
            self._wealth = Wealth(max(abs(a) for a in incumbent.weights.values()))
        past = np.concatenate([np.empty(0), *map(incumbent.weighted, self._blocks[:-1])])
        new = incumbent.weighted(block)
        if not len(new) or np.isnan(past.sum() + new.sum()):
            return True
        gain = self._least_gain(past, incumbent)
        needed = (incumbent.items * gain - past.sum()) / (incumbent.items - len(past))
        wealth = self._wealth.bet(new, needed=needed)
        decided = self.items >= self.rule.min_items and wealth >= -math.log(self.rule.alpha)
        drop = decided and self.items < incumbent.all_items  # after the last block there is nothing left to save
        self.looks.append(Look(self.items, incumbent.trial.number, round(wealth, 6), drop, round(gain, 6)))
        if drop:
            self.lost_to = incumbent
        return not drop

    def _least_gain(self, past: np.ndarray, incumbent: Incumbent) -> float:
        """Return the least gain that is worth a full score; 0 while nothing is known of the noise."""
        if not len(past):
            return 0.0
        return self.rule.least_gain * float(past.std()) * math.sqrt(self.search_per_select / incumbent.items)

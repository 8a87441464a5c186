"""Comparison of the form of the winner's answers with its parents': truncated or empty answers change scores too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...evaluators import FACTS, Scores

MIN_DIFFERENCE = 0.02  # smallest difference of a rate that is reported; of a mean length, as a share of the parent's
FILTER_FACT = "score by filter "
_PHRASES = {
    "truncated": "are cut off at the limit",
    "empty": "are empty",
    "unextracted": "hold nothing that the task's filter looks for",
}


def audit_warnings(winner: Scores, parents: Sequence[Scores]) -> list[str]:
    """Return a sentence for every rate of the winner that is outside the parents' range by two standard errors."""
    found = []
    for leaf, items in winner.items.items():
        others = [facts for parent in parents if (facts := parent.items[leaf].facts) is not None]
        if items.facts is None or not others:
            continue
        for column, fact in enumerate(FACTS):
            parent_rates = [_mean(facts[:, column]) for facts in others]
            winner_rate = _mean(items.facts[:, column])
            if _outside(winner_rate, parent_rates, relative=fact == "length"):
                found.append(f"{leaf}: {_sentence(fact, winner_rate[0], [mean for mean, _ in parent_rates])}")
    return found


def rates_document(scores: Scores) -> dict[str, dict[str, float]]:
    """Return task -> fact -> its mean over the items, for JSON; only tasks with generated answers are included.

    The facts include the score of the same answers by each other filter of the task, named by `filter_fact`.
    """
    found = {}
    for leaf, items in scores.items.items():
        if items.facts is not None:
            rates = dict(zip(FACTS, items.facts.mean(0).tolist(), strict=True))
            known = {name: values[~np.isnan(values)] for name, values in items.by_filter.items()}
            rates |= {filter_fact(name): float(values.mean()) for name, values in known.items() if len(values)}
            found[leaf] = {fact: round(rate, 4) for fact, rate in rates.items()}
    return found


def filter_fact(name: str) -> str:
    """Return the name of the fact for the score by the filter `name`."""
    return f"{FILTER_FACT}{name}"


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and its squared standard error."""
    return float(values.mean()), float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.0


def _outside(winner_rate: tuple[float, float], parent_rates: Sequence[tuple[float, float]], *, relative: bool) -> bool:
    for extreme, sign in ((max(parent_rates), 1.0), (min(parent_rates), -1.0)):
        threshold = MIN_DIFFERENCE * extreme[0] if relative else MIN_DIFFERENCE
        if sign * (winner_rate[0] - extreme[0]) > max(threshold, 2 * math.sqrt(winner_rate[1] + extreme[1])):
            return True
    return False


def _sentence(fact: str, winner_rate: float, parent_rates: Sequence[float]) -> str:
    low, high = min(parent_rates), max(parent_rates)
    if fact == "length":
        return f"the winner's answers have {winner_rate:.1f} tokens on average, the parents' {low:.1f} to {high:.1f}"
    return f"{winner_rate:.0%} of the winner's answers {_PHRASES[fact]}, of the parents' {low:.0%} to {high:.0%}"

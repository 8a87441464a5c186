"""Candidates for an acquisition function: variations of the best points of a group, and draws from its prior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...search_spaces import Coordinates, Params
from .landscape import NEAREST, Group, joined, split

DRAWS = 0.2  # the share of draws from the prior
MIXED, SWITCHED, DROPPED, SCALED = 0.3, 0.15, 0.15, 0.3  # probabilities of the kinds of variations


def candidates(group: Group, best: Sequence[Params], rng: np.random.Generator, count: int) -> list[Params]:
    """Return variations of the best points and draws from the prior of the group's arms; `best` may be empty."""
    draws = count if not best else round(DRAWS * count)
    found = [_varied(group, best, rng) for _ in range(count - draws)]
    for _ in range(draws):
        arm = group.arms[int(rng.integers(len(group.arms)))]
        found.append(arm.params(rng.random(len(arm.axes))))
    return found


def distinct(features: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the indices of rows of `features`, (n, d), that are not the same as a row of `known`, (m, d)."""
    gaps = np.abs(features[:, None, :] - known[None]).max(axis=2).min(axis=1, initial=np.inf)
    return np.flatnonzero(gaps >= NEAREST)


def _varied(group: Group, best: Sequence[Params], rng: np.random.Generator) -> Params:
    params = best[int(rng.integers(len(best)))]
    arm = group.arm_of(params)
    assert arm is not None, "Should not reach."
    weights, units = split(arm, params)
    if len(best) > 1 and rng.random() < MIXED:  # merges are linear in weights: on the line through two good points
        other = best[int(rng.integers(len(best)))]
        other_arm = group.arm_of(other)
        assert other_arm is not None, "Should not reach."
        step = rng.uniform(-0.7, 1.7)
        weights = np.maximum(weights + step * (split(other_arm, other)[0] - weights), 0.0)
        if other_arm is arm:
            units = units + step * (split(arm, other)[1] - units)
    else:
        weights, units = _moved(weights, units, rng)
    if len(group.arms) > 1 and rng.random() < SWITCHED:
        arm, units = _switched(group, arm, rng)
    if len(weights) and not (weights > 0).any():
        return params
    return joined(arm, weights, units)


def _moved(weights: np.ndarray, units: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    size = 10 ** rng.uniform(-1.5, -0.3)
    if len(weights):
        scale = float(weights[weights > 0].mean()) if (weights > 0).any() else 0.1
        chosen = rng.random(len(weights)) < max(0.4, 2 / len(weights))
        weights = np.maximum(weights + chosen * size * scale * rng.standard_normal(len(weights)), 0.0)
        if rng.random() < SCALED:
            weights = weights * np.exp(size * rng.standard_normal())
        if len(weights) > 1 and rng.random() < DROPPED:
            weights[int(rng.integers(len(weights)))] = 0.0
    if len(units):
        shift = size * (rng.standard_normal() + 0.3 * rng.standard_normal(len(units)))
        units = np.clip(units + shift, 0, 1)
    return weights, units


def _switched(group: Group, arm: Coordinates, rng: np.random.Generator) -> tuple[Coordinates, np.ndarray]:
    others = [other for other in group.arms if other is not arm]
    other = others[int(rng.integers(len(others)))]
    return other, np.full(len(other.floats), rng.uniform(0.3, 1.0))

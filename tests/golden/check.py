"""A second opinion on the stored cases: four methods in float64, straight from their formulas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray


def recompute(case: Mapping[str, Any], inputs: Sequence[Array]) -> Array | None:
    """Return the case's result, or None where this file has no formula for it."""
    method, shared, per_input = case["method"], case["parameters"], case["per_input"]
    if method == "linear":
        return linear(inputs, per_input["weight"], shared.get("normalize", True))
    if method == "slerp":
        base = case["base"]
        return slerp(inputs[base], inputs[1 - base], shared["t"])
    if method in ("task_arithmetic", "ties", "dare_linear", "dare_ties"):
        return task_vectors(case, inputs, consensus=method.endswith("ties"), trim=method == "ties")
    return None


def linear(inputs: Sequence[Array], weights: Sequence[float], normalize: bool) -> Array:
    total = sum(weight * x for weight, x in zip(weights, inputs, strict=True))
    return np.asarray(total) / (sum(weights) if normalize else 1.0)


def slerp(base: Array, other: Array, t: float) -> Array:
    norms = [norm if norm > 1e-8 else 1.0 for norm in (np.linalg.norm(base), np.linalg.norm(other))]
    dot = float(np.clip(np.sum((base / norms[0]) * (other / norms[1])), -1.0, 1.0))
    if abs(dot) > 0.9995:
        return (1 - t) * base + t * other
    angle = math.acos(dot)
    return (math.sin((1 - t) * angle) * base + math.sin(t * angle) * other) / math.sin(angle)


def task_vectors(case: Mapping[str, Any], inputs: Sequence[Array], *, consensus: bool, trim: bool) -> Array:
    shared, per_input, base = case["parameters"], case["per_input"], case["base"]
    others = [i for i in range(len(inputs)) if i != base]
    if not others:
        return inputs[base]
    weight = np.array([per_input["weight"][i] for i in others]).reshape([-1] + [1] * inputs[base].ndim)
    deltas = [inputs[i] - inputs[base] for i in others]
    if trim:
        densities = [per_input.get("density", [1.0] * len(inputs))[i] for i in others]
        deltas = [keep_largest(d, p, shared.get("rescale", False)) for d, p in zip(deltas, densities, strict=True)]
    weighted = np.stack(deltas) * weight
    counted = np.ones_like(weighted)
    if consensus:
        counted = (np.sign(weighted) == np.where(weighted.sum(0) >= 0, 1.0, -1.0)).astype(np.float64)
    mixed = (weighted * counted).sum(0)
    if shared.get("normalize", case["method"] == "ties"):
        divisor = (weight * counted).sum(0)
        mixed = mixed / np.where(np.abs(divisor) < 1e-12, 1.0, divisor)
    return inputs[base] + shared.get("lambda", 1.0) * mixed


def keep_largest(delta: Array, density: float, rescale: bool) -> Array:
    if density >= 1:
        return delta
    kept = np.zeros(delta.size)
    if density > 0:
        first = np.argsort(-np.abs(delta).ravel(), kind="stable")[: kept_count(density, delta.size)]
        kept[first] = delta.ravel()[first]
    before, after = np.abs(delta).sum(), np.abs(kept).sum()
    if rescale and before >= 1e-7 and after >= 1e-7:
        kept *= before / after
    return kept.reshape(delta.shape)


def kept_count(density: float, size: int) -> int:
    return max(1, int(density * size))


def cut_on_tie(magnitudes: Array, count: int) -> bool:
    """Tell whether which `count` largest elements are kept is a matter of choice; among zeros no choice matters."""
    ordered = np.sort(magnitudes.ravel())[::-1]
    return 0 < count < ordered.size and bool(ordered[count - 1] == ordered[count] > 0)


def has_ties(case: Mapping[str, Any], inputs: Sequence[Array]) -> bool:
    """Tell whether a magnitude cut of this case falls between equal magnitudes."""
    others = [i for i in range(len(inputs)) if i != case["base"]]
    deltas = [inputs[i] - inputs[case["base"]] for i in others] if case["base"] is not None else []
    if case["method"] == "sce" and (top := case["parameters"].get("select_topk", 1.0)) < 1:
        variance = np.var(np.stack(deltas), axis=0)
        return cut_on_tie(variance, int(np.count_nonzero(variance) * top))
    if case["method"] not in ("ties", "breadcrumbs", "breadcrumbs_ties"):
        return False
    per_input = case["per_input"]
    for i, delta in zip(others, deltas, strict=True):
        density, size = per_input["density"][i], delta.size
        dropped = int(per_input["gamma"][i] * size) if "gamma" in per_input else 0
        kept = int(density * size) if "gamma" in per_input else kept_count(density, size)
        if (density < 1 or dropped) and (
            cut_on_tie(np.abs(delta), dropped + kept) or cut_on_tie(np.abs(delta), dropped)
        ):
            return True
    return False


def relative_difference(ours: Array, theirs: Array) -> float:
    largest = float(np.abs(theirs).max())
    return float(np.abs(ours - theirs).max()) / (largest if largest > 0 else 1.0)

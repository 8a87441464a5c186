"""Stage `transfer`: the best weights so far under every other method, since weights mean nearly the same in all.

Methods that add weighted task vectors get the weights unchanged, each at two densities. Methods that normalize their
weights get the same proportions. All others are tried at the middle of their priors.
"""

from __future__ import annotations

from ....search_spaces import METHOD, Coordinates, Params
from ..sampler import Proposal
from .history import History

NAME = "transfer"
PLACES = (0.75, 0.35)  # positions in the ranges of the other numbers: a high density, a low one
MOST = 12  # candidates of this stage


def propose(history: History) -> Proposal | None:
    """Return the next method's candidate; None when every method has had its candidates."""
    found = history.best()
    if found is None:
        return None
    weights = _weights(history, found.params)
    asked = {_place(history, proposal.params) for proposal in history.asked(NAME)}
    if len(asked) >= MOST:
        return None
    for params in _candidates(history, weights, str(found.params[METHOD])):
        if _place(history, params) not in asked:
            return Proposal(params, NAME)
    return None


def _place(history: History, params: Params) -> tuple[object, ...]:
    """Return what identifies a candidate of this stage: method and other numbers, not the weights, which may change."""
    return (params[METHOD], *(params[d.name] for d in history.arms.of(params).floats))


def _weights(history: History, params: Params) -> dict[str, float]:
    """Return model -> mean weight at a point; empty if its method has no weights."""
    arm = history.arms.of(params)
    if arm.weights is None:
        return {}
    groups = arm.weights.by_model.items()
    return {model: sum(float(params[d.name]) for d in ds) / len(ds) for model, ds in groups}


def _candidates(history: History, weights: dict[str, float], method: str) -> list[Params]:
    found: list[Params] = []
    for place in PLACES:
        for name, arms in history.arms.by_method.items():
            if len(arms) > 1 or (place != PLACES[0] and not _has_numbers(arms[0])):
                continue  # pairs of models are baselines already
            if name == method and not _has_numbers(arms[0]):
                continue  # that is where the weights come from
            found.append(_moved(arms[0], weights, place))
    return found


def _has_numbers(arm: Coordinates) -> bool:
    return arm.weights is not None and bool(arm.floats)


def _moved(arm: Coordinates, weights: dict[str, float], place: float) -> Params:
    point = {**arm.middle, **{d.name: d.from_unit(place if arm.weights else 0.5) for d in arm.floats}}
    if arm.weights is None or set(arm.weights.by_model) != set(weights):
        return point
    scale = 1.0
    if not arm.weights.scaled:  # shares: the largest becomes the upper end of its range
        scale = min(d.high for ds in arm.weights.by_model.values() for d in ds) / max(max(weights.values()), 1e-9)
    return {
        **point,
        **{
            d.name: min(d.high, max(d.low, scale * weights[model]))
            for model, dimensions in arm.weights.by_model.items()
            for d in dimensions
        },
    }

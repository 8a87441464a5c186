"""The state that the stages decide on: all observations so far, and the pending proposals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ....search_spaces import METHOD, Coordinates, Params, SearchSpace, parent_name
from ..arms import Arms
from ..sampler import Observation, Proposal

FAMILY = ("task_arithmetic", "ties", "dare_linear", "dare_ties", "della_linear", "della", "breadcrumbs")


@dataclass
class History:
    """The observations in the order in which candidates finished, and the pending proposals."""

    space: SearchSpace
    arms: Arms
    seed: int
    told: list[Observation] = field(default_factory=list)
    pending: Sequence[Proposal] = ()

    @property
    def scored(self) -> list[Observation]:
        """Observations of candidates, baselines included, that have a value and keep within all limits."""
        return [o for o in self.told if o.value is not None and o.violation == 0 and not o.probe]

    @property
    def leading(self) -> Arm | None:
        """The arm in which the first stages work: task arithmetic, else the first method with a total weight."""
        names = sorted(self.space.methods, key=lambda name: FAMILY.index(name) if name in FAMILY else len(FAMILY))
        arms = (Arm(name, self.arms.by_method[name][0]) for name in names if len(self.arms.by_method[name]) == 1)
        return next((arm for arm in arms if arm.coordinates.weights and arm.coordinates.weights.scaled), None)

    def of_stage(self, stage: str) -> list[Observation]:
        """Return the observations of one stage."""
        return [o for o in self.told if o.of_stage(stage)]

    def waiting(self, stage: str) -> int:
        """Return the number of pending proposals of a stage."""
        return sum(proposal.stage == stage for proposal in self.pending)

    def asked(self, stage: str) -> Iterator[Proposal]:
        """Yield all proposals of a stage, finished or pending."""
        yield from (o.proposal for o in self.of_stage(stage))
        yield from (proposal for proposal in self.pending if proposal.stage == stage)

    def parent_value(self, model: str) -> float:
        """Return the value of a fine-tune itself; -inf if it has none."""
        found = (o.value for o in self.scored if o.name == parent_name(model) and o.value is not None)
        return next(found, -math.inf)

    def parents_by_score(self, models: Sequence[str]) -> list[str]:
        """Return the models that have a value themselves, best first."""
        known = [model for model in models if self.parent_value(model) > -math.inf]
        return sorted(known, key=lambda model: -self.parent_value(model))

    def best(self, methods: Sequence[str] | None = None) -> Observation | None:
        """Return the observation of the highest value, among the complete ones if there are any."""
        found = [o for o in self.scored if o.params and (methods is None or o.params[METHOD] in methods)]
        found = [o for o in found if o.complete] or found
        return max(found, key=lambda o: o.value or 0.0, default=None)


@dataclass(frozen=True)
class Arm:
    """A method without choices, and its only arm."""

    method: str
    coordinates: Coordinates

    @property
    def models(self) -> tuple[str, ...]:
        """The models that have weights."""
        assert self.coordinates.weights is not None, "Should not reach."
        return tuple(self.coordinates.weights.by_model)

    def params(self, weights: Sequence[float]) -> Params:
        """Return the point with one constant weight per model, and everything else at the middle of its prior."""
        assert self.coordinates.weights is not None, "Should not reach."
        values = {
            d.name: min(d.high, max(d.low, weight))
            for weight, dimensions in zip(weights, self.coordinates.weights.by_model.values(), strict=True)
            for d in dimensions
        }
        return {**self.coordinates.middle, **values}

    def weights(self, params: Params) -> list[float]:
        """Return the mean weight of each model at a point."""
        assert self.coordinates.weights is not None, "Should not reach."
        groups = self.coordinates.weights.by_model.values()
        return [sum(float(params[d.name]) for d in dimensions) / len(dimensions) for dimensions in groups]

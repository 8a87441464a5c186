"""What the stages look at: every observation so far, and what is being scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from ....search_spaces import Coordinates, Params, SearchSpace, parent_name
from ..arms import Arms
from ..landscape import Group, groups_of, ranges, same_merge
from ..sampler import Observation, Proposal

T = TypeVar("T")
FAMILY = ("task_arithmetic", "ties", "dare_linear", "dare_ties", "della_linear", "della", "breadcrumbs")


@dataclass
class History:
    """The observations in the order told, and the proposals that are pending now."""

    space: SearchSpace
    arms: Arms
    seed: int
    told: list[Observation] = field(default_factory=list)
    pending: Sequence[Proposal] = ()
    _computed: dict[Hashable, Any] = field(default_factory=dict)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return `compute()`, which is called once per key; the key has to identify the observations that it uses."""
        if key not in self._computed:
            self._computed[key] = compute()
        return self._computed[key]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups of arms that share a landscape."""
        return groups_of(self.arms)

    @property
    def scored(self) -> list[Observation]:
        """Observations with a value that keep within all limits, baselines included; probes are not among them."""
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
        """Return the value of a fine-tune; -inf if it has none."""
        found = (o.value for o in self.scored if o.name == parent_name(model) and o.value is not None)
        return next(found, -math.inf)

    def parents_by_score(self, models: Sequence[str]) -> list[str]:
        """Return the models whose scores are known, best first."""
        known = [model for model in models if self.parent_value(model) > -math.inf]
        return sorted(known, key=lambda model: -self.parent_value(model))

    def best(self) -> Observation | None:
        """Return the observation of the highest value; of complete ones if there are any."""
        return best_of(o for o in self.scored if o.params)

    def best_before(self, stage: str) -> Observation | None:
        """Return the best observation with a point in the leading arm before the first one of a stage."""
        arm = self.leading
        return None if arm is None else best_of(o for o in self.before(stage) if arm.as_params(o) is not None)

    def before(self, stage: str) -> list[Observation]:
        """Return the observations with a value, within all limits, before the first one of a stage."""
        first = next((i for i, o in enumerate(self.told) if o.of_stage(stage)), len(self.told))
        return [o for o in self.told[:first] if o.feasible_value > -math.inf]


@dataclass(frozen=True)
class Arm:
    """A method with one arm of numbers."""

    method: str
    coordinates: Coordinates

    @property
    def models(self) -> tuple[str, ...]:
        """The models that have weights."""
        assert self.coordinates.weights is not None, "Should not reach."
        return tuple(self.coordinates.weights.by_model)

    def params(self, weights: Sequence[float]) -> Params:
        """Return the point with one constant weight per model; all else is at the middle of its prior."""
        values = {name: weight for weight, names in zip(weights, self.groups, strict=True) for name in names}
        return {**self.coordinates.middle, **self.clipped(values)}

    def as_params(self, observation: Observation) -> Params | None:
        """Return the arm's point that gives the same merge; a fine-tune has weight 1. None if there is none."""
        if observation.params:
            return observation.params if self.coordinates.matches(observation.params) else None
        return same_merge(self.coordinates, observation)

    def weights(self, params: Params) -> list[float]:
        """Return the mean weight of each model at a point."""
        return group_means(params, self.groups)

    @property
    def groups(self) -> list[list[str]]:
        """The names of each model's weights."""
        assert self.coordinates.weights is not None, "Should not reach."
        return [[d.name for d in dimensions] for dimensions in self.coordinates.weights.by_model.values()]

    def clipped(self, weights: Mapping[str, float]) -> Params:
        """Return weights by name, each moved into its range."""
        return {name: min(self.ranges[name][1], max(self.ranges[name][0], w)) for name, w in weights.items()}

    @cached_property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The range of every weight."""
        return {name: (low, high) for name, low, high in ranges(self.coordinates)}


def group_means(params: Params, groups: Iterable[Sequence[str]]) -> list[float]:
    """Return the mean weight of every group of weights at a point."""
    return [sum(float(params[name]) for name in names) / len(names) for names in groups]


def best_of(observations: Iterable[Observation]) -> Observation | None:
    """Return the observation of the highest value, of complete ones if there are any; None if there is none at all."""
    return max(observations, key=lambda o: (o.complete, o.value or 0.0), default=None)

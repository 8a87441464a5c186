"""Optuna's tree-structured Parzen estimator: multivariate within a method, constant liar for pending candidates.

Paper: Bergstra et al. 2011, Algorithms for hyper-parameter optimization (NeurIPS); Watanabe 2023, arXiv:2304.11127.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Container, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from ...search_spaces import METHOD, Choice, Dimension, Params, SearchSpace, Value
from .arms import Arms
from .sampler import Observation, Proposal, derived_seed

NAME = "tpe"
NUMBER_OFFSET = 1 << 40  # more than any number of trials
Point = tuple[str, np.ndarray]  # a method, and the values of its dimensions in Optuna's internal representation


class TPESampler:
    """Keeps the observations as Optuna trials; every ask builds a new Optuna sampler over them, with its own seed.

    Optuna's dimensions are the choices of the space and, for its numbers, the axes of the arms' unit cubes, named after
    the method.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space, self.seed = space, seed
        self.arms = Arms(space)
        self.finished: list[FrozenTrial] = []
        self.points: list[Point] = []  # the points of `finished`
        self.first_of_method: dict[str, FrozenTrial] = {}  # method -> its first trial
        optuna.logging.set_verbosity(optuna.logging.WARNING)

    def tell(self, observation: Observation) -> None:
        """Add a finished candidate; a failed one is left out, as Optuna's TPE does."""
        if observation.value is not None and observation.params and not observation.probe:
            trial = self.frozen_trial(observation)
            trial.number = len(self.finished) - NUMBER_OFFSET
            self.finished.append(trial)
            numbers = [d.to_internal_repr(trial.params[name]) for name, d in trial.distributions.items()]
            self.points.append((str(trial.params[METHOD]), np.array(numbers, dtype=np.float64)))
            self.first_of_method.setdefault(str(trial.params[METHOD]), trial)

    def ask(self, index: int, pending: Sequence[Proposal]) -> Proposal:
        """Return the point that the estimator finds most promising."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group` is marked so
            sampler = _Sampler(derived_seed(self.seed, NAME, index), self.first_of_method, self.points)
        study = _study(self.finished, sampler)
        for proposal in pending:
            study.add_trial(create_trial(state=TrialState.RUNNING, **self.as_optuna(proposal.params)))
        return Proposal(self.suggested(study.ask()))

    def suggested(self, trial: Trial) -> Params:
        """Return a point for which Optuna suggests the method, its choices and the numbers of the arm they select."""
        method = str(_suggest(trial, self.space.root))
        arms = self.arms.by_method[method]
        choices = {METHOD: method, **{d.name: _suggest(trial, d) for d in _choices(self.space, method)}}
        arm = next(arm for arm in arms if arm.matches(choices))
        return arm.params(np.array([trial.suggest_float(f"{method}: {axis}", 0.0, 1.0) for axis in arm.axes]))

    def as_optuna(self, params: Params) -> dict[str, Any]:
        """Return the arguments `params` and `distributions` of Optuna's `create_trial` for a point."""
        arm, method = self.arms.of(params), str(params[METHOD])
        axes = {f"{method}: {axis}": float(q) for axis, q in zip(arm.axes, arm.point(params), strict=True)}
        return {"params": {**arm.choices, **axes}, "distributions": _axis_distributions(self, method)}

    def frozen_trial(self, observation: Observation) -> FrozenTrial:
        """Return a finished candidate as an Optuna trial."""
        complete = observation.value is not None
        return create_trial(
            state=TrialState.COMPLETE if complete else TrialState.FAIL,
            value=observation.value,
            constraints=dict(observation.violations) if complete else None,
            **self.as_optuna(observation.params),
        )


@lru_cache(maxsize=256)
def _axis_distributions(sampler: TPESampler, method: str) -> dict[str, BaseDistribution]:
    """Return dimension name -> distribution for the points of a method; the same objects at every call."""
    space = sampler.space
    numbers = {f"{method}: {axis}": FloatDistribution(0.0, 1.0) for axis in sampler.arms.by_method[method][0].axes}
    return {**{d.name: _distribution(d) for d in (space.root, *_choices(space, method))}, **numbers}


def _choices(space: SearchSpace, method: str) -> list[Choice]:
    return [d for d in space.dimensions(method) if isinstance(d, Choice)]


class _Sampler(optuna.samplers.TPESampler):
    """Optuna's TPE sampler without the work that it would repeat at every ask.

    The groups of dimensions come from one trial of each method (`first_of_method`), because all trials of a method have
    the same dimensions. The numbers of finished trials are kept (`points`): collecting them is half of an ask's cost.
    """

    def __init__(self, seed: int, first_of_method: Mapping[str, FrozenTrial], points: Sequence[Point]) -> None:
        super().__init__(seed=seed, multivariate=True, group=True, constant_liar=True)
        self._first_of_method, self._points = first_of_method, points
        self._first_study = _study([*first_of_method.values()])

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return super().infer_relative_search_space(self._first_study, trial)

    def _get_internal_repr(
        self, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], study: optuna.Study
    ) -> dict[str, np.ndarray]:
        """Return name -> (n,) values of the trials with all of these dimensions, finished before pending."""
        pending = super()._get_internal_repr([t for t in trials if t.number >= 0], search_space, study)
        columns = {
            method: _columns([*first.distributions], search_space) for method, first in self._first_of_method.items()
        }
        points = (self._points[trial.number + NUMBER_OFFSET] for trial in trials if trial.number < 0)
        rows = [numbers[places] for method, numbers in points if (places := columns[method]) is not None]
        if not rows:
            return pending
        finished = np.stack(rows, axis=1)
        return {name: np.concatenate([finished[i], pending[name]]) for i, name in enumerate(search_space)}


def _columns(names: Sequence[str], wanted: Collection[str]) -> np.ndarray | None:
    """Return the indices of the wanted names in `names`; None if one is missing."""
    return np.array([names.index(name) for name in wanted]) if set(wanted) <= set(names) else None


def _study(finished: Sequence[FrozenTrial], sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Study:
    return optuna.create_study(storage=_SharedTrials(finished), sampler=sampler, direction="maximize")


class _SharedTrials(InMemoryStorage):
    """An Optuna storage for one ask: the finished trials, shared without a copy, then the trials of the ask itself.

    Optuna numbers the latter from 0. The finished trials have negative numbers, so that all are in chronological order.
    """

    def __init__(self, finished: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._finished = finished

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        current = super().get_all_trials(study_id, deepcopy=deepcopy, states=states)
        if states is not None and TrialState.COMPLETE not in states:
            return current
        return [*(copy.deepcopy(self._finished) if deepcopy else self._finished), *current]


def distributions(space: SearchSpace, params: Params) -> dict[str, BaseDistribution]:
    """Return dimension name -> Optuna's distribution for a point; the same objects for all points of a method."""
    return _distributions(space, str(params[METHOD]))


@lru_cache(maxsize=256)
def _distributions(space: SearchSpace, method: str) -> dict[str, BaseDistribution]:
    return {dimension.name: _distribution(dimension) for dimension in (space.root, *space.dimensions(method))}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.options)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _suggest(trial: Trial, dimension: Choice) -> Value:
    value = trial.suggest_categorical(dimension.name, dimension.options)
    assert value is not None, "Should not reach."
    return value  # type: ignore[return-value]


make = TPESampler

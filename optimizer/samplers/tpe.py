"""Tree-structured Parzen estimator, Optuna's: multivariate within a method, constant liar for pending candidates.

Paper: Bergstra et al. 2011, Algorithms for hyper-parameter optimization (NeurIPS); Watanabe 2023, arXiv:2304.11127.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from ...search_spaces import METHOD, Choice, Dimension, Params, SearchSpace, Value
from .sampler import Observation, derived_seed

NAME = "tpe"


class TPESampler:
    """Holds the observations in an in-memory study; every ask has a fresh sampler with a seed of its own."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space, self.seed = space, seed
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(direction="maximize")

    def tell(self, observation: Observation) -> None:
        """Add a finished candidate; a failed one is left out, as Optuna's TPE does."""
        if observation.value is not None:
            self.study.add_trial(frozen_trial(self.space, observation))

    def ask(self, index: int, pending: Sequence[Params]) -> Params:
        """The point that the estimator finds most promising."""
        study = self.study if not pending else self._with(pending)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group` is marked so
            study.sampler = optuna.samplers.TPESampler(
                seed=derived_seed(self.seed, NAME, index), multivariate=True, group=True, constant_liar=True
            )
        trial = study.ask()
        try:
            method = str(_suggest(trial, self.space.root))
            return {METHOD: method, **{d.name: _suggest(trial, d) for d in self.space.dimensions(method)}}
        finally:
            study.tell(trial, state=TrialState.FAIL)  # what becomes of it is told later, as an observation

    def _with(self, pending: Sequence[Params]) -> optuna.Study:
        study = optuna.create_study(direction="maximize")
        study.add_trials(t for t in self.study.get_trials(deepcopy=False) if t.state.is_finished())
        for params in pending:
            study.add_trial(
                create_trial(
                    state=TrialState.RUNNING, params=dict(params), distributions=distributions(self.space, params)
                )
            )
        return study


def frozen_trial(space: SearchSpace, observation: Observation) -> FrozenTrial:
    """An observation as a finished Optuna trial."""
    complete = observation.value is not None
    return create_trial(
        state=TrialState.COMPLETE if complete else TrialState.FAIL,
        value=observation.value,
        params=dict(observation.params),
        distributions=distributions(space, observation.params),
        constraints=dict(observation.violations) if complete else None,
    )


def distributions(space: SearchSpace, params: Params) -> dict[str, BaseDistribution]:
    """Optuna's distributions of the dimensions of a point."""
    dimensions = (space.root, *space.dimensions(str(params[METHOD])))
    return {dimension.name: _distribution(dimension) for dimension in dimensions}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.options)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _suggest(trial: Trial, dimension: Dimension) -> Value:
    if isinstance(dimension, Choice):
        value = trial.suggest_categorical(dimension.name, dimension.options)
        assert value is not None, "Should not reach."
        return value  # type: ignore[return-value]
    return trial.suggest_float(dimension.name, dimension.low, dimension.high, log=dimension.log)


make = TPESampler

"""What every sampler must keep: the conformance suite, run over all that are registered; then what each claims."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cmaes
import numpy as np
import optuna
import pytest
from checkout import ROOT

from mergesmith.errors import UserError
from mergesmith.optimizer.samplers import SAMPLERS, Observation, Sampler, derived_seed, make_sampler
from mergesmith.optimizer.samplers.tpe import TPESampler, distributions, frozen_trial
from mergesmith.search_spaces import (
    METHOD,
    Choice,
    Dimension,
    Float,
    MergeIngredients,
    Params,
    SearchSpace,
    SpaceConfig,
)

SUBJECT = MergeIngredients("./base", ("./a", "./b", "./c"), "float32")
MIXED = SearchSpace(SpaceConfig(), SUBJECT)
SMOOTH = SearchSpace(SpaceConfig(methods={"task_arithmetic": {}}, knots=2), SUBJECT)  # six numbers


def value_of(params: Params) -> float:
    """A hill: highest where every number is 0.6, and ties a little better than other methods."""
    numbers = [value for value in params.values() if isinstance(value, float)]
    return (params[METHOD] == "ties") * 0.1 - float(np.mean([(x - 0.6) ** 2 for x in numbers]))


def observed(params: Params) -> Observation:
    return Observation(params, value_of(params))


def trajectory(sampler: Sampler, count: int, start: int = 0) -> Iterator[Params]:
    for index in range(start, count):
        params = sampler.ask(index, ())
        yield params
        sampler.tell(observed(params))


@pytest.fixture(params=SAMPLERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_proposals_lie_in_the_space(name: str) -> None:
    for params in trajectory(make_sampler(name, MIXED, 0), 40):
        dimensions = MIXED.dimensions(str(params[METHOD]))
        assert set(params) == {METHOD, *(d.name for d in dimensions)}
        assert all(d.contains(params[d.name]) for d in dimensions)


def test_answer_depends_on_what_was_told_alone(name: str) -> None:
    whole = list(trajectory(make_sampler(name, MIXED, 7), 40))
    for cut in (1, 13, 27, 39):
        resumed = make_sampler(name, MIXED, 7)
        for params in whole[:cut]:
            resumed.tell(observed(params))
        assert resumed.ask(cut, ()) == whole[cut]


def test_asking_twice_gives_the_same(name: str) -> None:
    sampler = make_sampler(name, MIXED, 0)
    for params in trajectory(sampler, 20):
        sampler.tell(observed(params))
    assert sampler.ask(20, ()) == sampler.ask(20, ())


def test_seed_and_index_matter(name: str) -> None:
    first, second = make_sampler(name, MIXED, 0), make_sampler(name, MIXED, 1)
    assert first.ask(0, ()) != second.ask(0, ())
    assert first.ask(0, ()) != first.ask(1, ())


def test_same_in_another_process(name: str) -> None:
    script = (
        "import json, test_sampler as t\n"
        "from mergesmith.optimizer.samplers import make_sampler\n"
        f"print(hash('x'), json.dumps(list(t.trajectory(make_sampler({name!r}, t.MIXED, 5), 20))))"
    )
    outputs = []
    for hash_seed in ("1", "2"):
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support"), str(Path(__file__).parent)])
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths}
        run = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
        outputs.append(run.stdout.split(" ", 1))
    assert outputs[0][0] != outputs[1][0]  # the hash seed really differed
    assert json.loads(outputs[0][1]) == json.loads(outputs[1][1])
    assert json.loads(outputs[0][1]) == list(trajectory(make_sampler(name, MIXED, 5), 20))


def test_failed_and_limited_candidates_are_taken(name: str) -> None:
    sampler = make_sampler(name, MIXED, 0)
    for index in range(30):
        params = sampler.ask(index, ())
        value = None if index % 3 == 0 else value_of(params)
        sampler.tell(Observation(params, value, {"task": 0.1 if index % 2 else -0.1}, warm_start=index < 3))
    assert sampler.ask(30, ())


def test_pending_candidates_are_not_proposed_again(name: str) -> None:
    sampler = make_sampler(name, MIXED, 0)
    for _ in trajectory(sampler, 15):
        pass
    pending: list[Params] = []
    for index in range(15, 25):
        pending.append(sampler.ask(index, pending))
    assert len({json.dumps(params, sort_keys=True) for params in pending}) == 10


@pytest.mark.parametrize("learner", ["tpe", "cmaes"])
def test_learners_beat_random(learner: str) -> None:
    def best(sampler_name: str, seed: int) -> float:
        return max(value_of(p) for p in trajectory(make_sampler(sampler_name, SMOOTH, seed), 80))

    wins = [best(learner, seed) > best("random", seed) for seed in range(5)]
    assert sum(wins) >= 4


@pytest.mark.parametrize("learner", ["tpe", "cmaes"])
def test_learners_keep_within_limits(learner: str) -> None:
    first = SMOOTH.dimensions("task_arithmetic")[0].name

    def excess(params: Params) -> float:  # the top of the hill is forbidden
        return float(params[first]) - 0.4

    sampler = make_sampler(learner, SMOOTH, 0)
    asked: list[Params] = []
    for index in range(80):
        asked.append(params := sampler.ask(index, ()))
        sampler.tell(Observation(params, value_of(params), {"task": excess(params)}))
    shares = [sum(excess(p) <= 0 for p in part) / len(part) for part in (asked[:20], asked[-30:])]
    assert shares[1] > max(0.6, shares[0])


class CopiedStudy:
    """TPE as Optuna's own study asks it: pending candidates among the trials of a new study, which is thrown away."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space, self.seed = space, seed
        self.told: list[Observation] = []

    def tell(self, observation: Observation) -> None:
        self.told.append(observation)

    def ask(self, index: int, pending: Sequence[Params]) -> Params:
        seed = derived_seed(self.seed, "tpe", index)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for observation in self.told:
            study.add_trial(frozen_trial(self.space, observation))
        for params in pending:
            given = {"params": dict(params), "distributions": distributions(self.space, params)}
            study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING, **given))
        trial = study.ask()

        def suggest(d: Dimension) -> Any:
            if isinstance(d, Choice):
                return trial.suggest_categorical(d.name, d.options)
            return trial.suggest_float(d.name, d.low, d.high, log=d.log)

        method = suggest(self.space.root)
        return {METHOD: method, **{d.name: suggest(d) for d in self.space.dimensions(method)}}


@pytest.mark.parametrize("space", [MIXED, SMOOTH], ids=["mixed", "smooth"])
def test_tpe_proposes_what_optunas_own_study_does(space: SearchSpace) -> None:
    """With candidates pending, failed and out of limits, told in another order than asked."""
    ours, plain = make_sampler("tpe", space, 3), CopiedStudy(space, 3)
    rng = np.random.default_rng(3)
    pending: list[Params] = []
    for index in range(50):
        params = ours.ask(index, pending)
        assert params == plain.ask(index, pending)
        pending.append(params)
        while len(pending) > rng.integers(0, 5):
            params = pending.pop(int(rng.integers(len(pending))))
            value = None if rng.random() < 0.15 else round(value_of(params), 2)  # some values are equal
            excess = {"task": float(rng.normal())} if rng.random() < 0.5 else {}
            for sampler in (ours, plain):
                sampler.tell(Observation(params, value, excess))


def test_asking_tpe_leaves_nothing_behind() -> None:
    sampler = TPESampler(MIXED, 0)
    for _ in trajectory(sampler, 15):
        pass
    pending = [sampler.ask(index, ()) for index in range(15, 18)]
    told = list(sampler.finished)
    sampler.ask(18, pending)
    assert all(one is other for one, other in zip(sampler.finished, told, strict=True))
    assert len(told) == 15


def test_cmaes_of_one_arm_is_cmaes() -> None:
    """The rebuilt optimizer has the state of one that was never torn down."""
    sampler = make_sampler("cmaes", SMOOTH, 0)
    dimensions = [d for d in SMOOTH.dimensions("task_arithmetic") if isinstance(d, Float)]
    population = 4 + int(3 * np.log(6))
    alive = cmaes.CMA(np.full(6, 0.5), 1 / 6, bounds=np.tile([0.0, 1.0], (6, 1)), population_size=population)
    generation: list[tuple[np.ndarray, float]] = []
    for index, params in enumerate(trajectory(sampler, 5 * population)):
        point = np.array([d.to_unit(float(params[d.name])) for d in dimensions])
        generation.append((point, -value_of(params)))
        if (index + 1) % population == 0:
            alive.tell(generation)
            generation = []
    next_point = sampler.ask(5 * population, ())
    alive._rng = np.random.RandomState(derived_seed(0, "cmaes", 5 * population))
    expected = alive.ask()
    ours = [d.to_unit(float(next_point[d.name])) for d in dimensions]
    assert np.allclose(ours, expected, atol=1e-9)


def test_cmaes_starts_at_the_best_warm_start() -> None:
    sampler = make_sampler("cmaes", SMOOTH, 0)
    names = [d.name for d in SMOOTH.dimensions("task_arithmetic")]
    for place, value in ((0.3, 1.0), (1.2, 2.0)):
        point: Params = {METHOD: "task_arithmetic", **dict.fromkeys(names, place)}
        sampler.tell(Observation(point, value, warm_start=True))
    asked = [sampler.ask(index, ()) for index in range(50)]
    assert abs(np.mean([[float(p[n]) for n in names] for p in asked]) - 1.2) < 0.1


def test_cmaes_gives_every_arm_a_generation() -> None:
    sampler = make_sampler("cmaes", MIXED, 0)
    asked = list(trajectory(sampler, 60))
    arms = {(p[METHOD], p.get("slerp.models")) for p in asked}
    assert len(arms) == 7  # four methods, and slerp of three pairs


def test_unknown_sampler() -> None:
    with pytest.raises(UserError, match="Did you mean 'cmaes'"):
        make_sampler("cmaess", MIXED, 0)


def test_cmaes_needs_numbers() -> None:
    fixed = SearchSpace(SpaceConfig.model_validate({"methods": {"slerp": {"t": 0.5}}}), SUBJECT)
    with pytest.raises(UserError, match="slerp has none"):
        make_sampler("cmaes", fixed, 0)

"""What every sampler must keep: the conformance suite, run over all that are registered; then what each claims."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

import cmaes
import numpy as np
import optuna
import pytest
from checkout import ROOT

from mergesmith.errors import UserError
from mergesmith.optimizer.samplers import (
    SAMPLERS,
    Observation,
    Proposal,
    Sampler,
    Slopes,
    Stop,
    derived_seed,
    make_sampler,
)
from mergesmith.optimizer.samplers.tpe import TPESampler
from mergesmith.search_spaces import (
    METHOD,
    MergeIngredients,
    Params,
    SearchSpace,
    SpaceConfig,
)

SUBJECT = MergeIngredients("./base", ("./a", "./b", "./c"), "float32")
MIXED = SearchSpace(SpaceConfig(), SUBJECT)
SMOOTH = SearchSpace(  # six numbers
    SpaceConfig.model_validate({"methods": ["task_arithmetic"], "knots": 2}), SUBJECT
)


def value_of(params: Params) -> float:
    """A hill: highest where every number is 0.6, and ties a little better than other methods."""
    numbers = [value for value in params.values() if isinstance(value, float)]
    return (params[METHOD] == "ties") * 0.1 - float(np.mean([(x - 0.6) ** 2 for x in numbers]))


def observed(proposal: Proposal) -> Observation:
    """The candidate's value; of a probe, the loss and its slopes by finite differences."""
    params = proposal.params
    value = value_of(params)
    if not proposal.probe:
        return Observation(proposal, value, estimate=value, stderr=0.01, resolution=0.01)
    slopes = {
        name: (value - value_of({**params, name: x + 1e-4})) / 1e-4
        for name, x in params.items()
        if proposal.probe == "gradient" and ".weight[" in name and isinstance(x, float)
    }
    return Observation(proposal, None, slopes=Slopes(-value, 0.01, 96, slopes, dict.fromkeys(slopes, 1e-3)))


def asked(sampler: Sampler, index: int, pending: Sequence[Proposal] = ()) -> Proposal:
    """The sampler's proposal, which must be one."""
    proposal = sampler.ask(index, pending)
    assert isinstance(proposal, Proposal)
    return proposal


def made(name: str, space: SearchSpace, seed: int) -> Sampler:
    """A sampler that goes on for as long as it is asked."""
    return make_sampler(name, space, seed, stop=False)


def trajectory(sampler: Sampler, count: int, start: int = 0) -> Iterator[Proposal]:
    for index in range(start, count):
        proposal = asked(sampler, index)
        yield proposal
        sampler.tell(observed(proposal))


@cache
def course(name: str) -> tuple[Proposal, ...]:
    """The first proposals of a sampler in the mixed space, computed once per process."""
    return tuple(trajectory(made(name, MIXED, 0), length(name)))


def length(name: str) -> int:
    return 48 if name in ("auto", "descent") else 36  # their first stages are the same for all seeds


def resumed(name: str, count: int) -> Sampler:
    """A new sampler that knows the first proposals of the course, which it was not asked for."""
    sampler = made(name, MIXED, 0)
    for proposal in course(name)[:count]:
        sampler.tell(observed(proposal))
    return sampler


@pytest.fixture(params=SAMPLERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_proposals_lie_in_the_space(name: str) -> None:
    for proposal in course(name):
        params = proposal.params
        dimensions = MIXED.dimensions(str(params[METHOD]))
        assert set(params) == {METHOD, *(d.name for d in dimensions)}
        assert all(d.contains(params[d.name]) for d in dimensions)
        assert MIXED.params(MIXED.recipe(params)) == params


def test_answer_depends_on_what_was_told_alone(name: str) -> None:
    for cut in (1, 13, 22, length(name) - 2):
        assert resumed(name, cut).ask(cut, ()) == course(name)[cut]


def test_asking_twice_gives_the_same(name: str) -> None:
    count = length(name) - 2
    sampler = resumed(name, count)
    assert sampler.ask(count, ()) == sampler.ask(count, ())


def test_seed_and_index_matter(name: str) -> None:
    count = 48 if name in ("auto", "descent") else 12
    assert list(course(name)[:count]) != list(trajectory(made(name, MIXED, 1), count))
    assert len({json.dumps(asdict(proposal), sort_keys=True) for proposal in course(name)[:count]}) == count


def test_same_in_another_process() -> None:
    """All samplers in one process, for it takes longer to start than to ask; with another seed of hashes."""
    script = (
        "import json, test_sampler as t\n"
        "from dataclasses import asdict\n"
        "found = {n: [asdict(p) for p in t.trajectory(t.made(n, t.MIXED, 0), 20)] for n in t.SAMPLERS}\n"
        "print(hash('x'), json.dumps(found))"
    )
    hash_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support"), str(Path(__file__).parent)])
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths}
    run = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    other_hash, other = run.stdout.split(" ", 1)
    assert int(other_hash) != hash("x")  # the hash seed really differed
    here = {name: [asdict(p) for p in course(name)[:20]] for name in SAMPLERS}
    different = [name for name, found in json.loads(other).items() if found != json.loads(json.dumps(here[name]))]
    assert set(json.loads(other)) == set(SAMPLERS)
    assert not different


def test_failed_and_limited_candidates_are_taken(name: str) -> None:
    sampler = made(name, MIXED, 0)
    for index in range(22):
        proposal = asked(sampler, index)
        value = None if index % 3 == 0 or proposal.probe else value_of(proposal.params)
        excess = {"task": 0.1 if index % 2 else -0.1}
        estimate = math.nan if value is None else value
        sampler.tell(Observation(proposal, value, excess, warm_start=index < 3, estimate=estimate, stderr=0.01))
    assert sampler.ask(22, ())


def test_pending_candidates_are_not_proposed_again(name: str) -> None:
    sampler = resumed(name, 15)
    pending: list[Proposal] = []
    for index in range(15, 22):
        pending.append(asked(sampler, index, pending))
    assert len({json.dumps(asdict(proposal), sort_keys=True) for proposal in pending}) == 7


@pytest.mark.parametrize("learner", ["tpe", "cmaes", "gp", "auto"])
def test_learners_beat_random(learner: str) -> None:
    count, seeds = {"gp": (28, 3), "auto": (48, 3)}.get(learner, (80, 5))  # processes take half a second per ask

    def best(sampler_name: str, seed: int) -> float:
        return max(value_of(p.params) for p in trajectory(made(sampler_name, SMOOTH, seed), count) if not p.probe)

    wins = [best(learner, seed) > best("random", seed) for seed in range(seeds)]
    assert sum(wins) >= seeds - 1


@pytest.mark.parametrize("learner", ["tpe", "cmaes", "gp"])
def test_learners_keep_within_limits(learner: str) -> None:
    first = SMOOTH.dimensions("task_arithmetic")[0].name

    def excess(params: Params) -> float:  # the top of the hill is forbidden
        return float(params[first]) - 0.4

    sampler = made(learner, SMOOTH, 0)
    proposals: list[Params] = []
    for index in range(80 if learner != "gp" else 40):
        proposal = asked(sampler, index)
        proposals.append(params := proposal.params)
        value = value_of(params)
        sampler.tell(Observation(proposal, value, {"task": excess(params)}, estimate=value, stderr=0.01))
    shares = [sum(excess(p) <= 0 for p in part) / len(part) for part in (proposals[:20], proposals[-20:])]
    assert shares[1] > 0.6


def test_auto_stops_when_nothing_is_to_be_found() -> None:
    """On a flat landscape with noise the search ends by itself, and says why."""
    sampler, rng = make_sampler("auto", MIXED, 0), np.random.default_rng(0)
    for index in range(100):
        proposal = sampler.ask(index, ())
        if isinstance(proposal, Stop):
            assert "gain" in proposal.reason
            assert index < 60
            return
        value = 0.5 + 0.01 * float(rng.standard_normal())
        slopes = Slopes(0.5 + 0.01 * float(rng.standard_normal()), 0.01, 96) if proposal.probe else None
        scored = None if proposal.probe else value
        sampler.tell(Observation(proposal, scored, estimate=value, stderr=0.01, resolution=0.02, slopes=slopes))
    pytest.fail("it went on to the end")


def test_a_failed_probe_ends_the_survey() -> None:
    """Tasks without gold answers cost one probe, not one per known candidate."""
    sampler, probes = made("auto", SMOOTH, 0), 0
    for index in range(14):
        proposal = asked(sampler, index)
        probes += bool(proposal.probe)
        sampler.tell(Observation(proposal, None) if proposal.probe else observed(proposal))
    assert probes == 1


def test_descent_finds_the_top_by_its_slopes() -> None:
    descent = [p for p in trajectory(made("auto", SMOOTH, 0), 60) if p.stage == "descent"]
    found = [p for p in descent if not p.probe]
    assert found
    assert value_of(found[-1].params) > -0.005
    assert value_of(found[-1].params) > value_of(descent[0].params)


class CopiedStudy:
    """TPE as Optuna's own study asks it: pending candidates among the trials of a new study, which is thrown away."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.ours, self.seed = TPESampler(space, seed), seed  # which translates points, and is told nothing
        self.told: list[Observation] = []

    def tell(self, observation: Observation) -> None:
        self.told.append(observation)

    def ask(self, index: int, pending: Sequence[Proposal]) -> Proposal:
        seed = derived_seed(self.seed, "tpe", index)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for observation in self.told:
            study.add_trial(self.ours.frozen_trial(observation))
        for proposal in pending:
            given = self.ours.as_optuna(proposal.params)
            study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING, **given))
        return Proposal(self.ours.suggested(study.ask()))


@pytest.mark.parametrize("space", [MIXED, SMOOTH], ids=["mixed", "smooth"])
def test_tpe_proposes_what_optunas_own_study_does(space: SearchSpace) -> None:
    """With candidates pending, failed and out of limits, told in another order than asked."""
    ours, plain = made("tpe", space, 3), CopiedStudy(space, 3)
    rng = np.random.default_rng(3)
    pending: list[Proposal] = []
    for index in range(50):
        proposal = asked(ours, index, pending)
        assert proposal == plain.ask(index, pending)
        pending.append(proposal)
        while len(pending) > rng.integers(0, 5):
            proposal = pending.pop(int(rng.integers(len(pending))))
            value = None if rng.random() < 0.15 else round(value_of(proposal.params), 2)  # some values are equal
            excess = {"task": float(rng.normal())} if rng.random() < 0.5 else {}
            for sampler in (ours, plain):
                sampler.tell(Observation(proposal, value, excess))


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
    sampler = made("cmaes", SMOOTH, 0)
    (arm,) = SMOOTH.arms("task_arithmetic")
    size = len(arm.axes)
    population = 4 + int(3 * np.log(size))
    alive = cmaes.CMA(np.full(size, 0.5), 1 / 6, bounds=np.tile([0.0, 1.0], (size, 1)), population_size=population)
    generation: list[tuple[np.ndarray, float]] = []
    for index, proposal in enumerate(trajectory(sampler, 5 * population)):
        generation.append((arm.point(proposal.params), -value_of(proposal.params)))
        if (index + 1) % population == 0:
            alive.tell(generation)
            generation = []
    next_point = asked(sampler, 5 * population).params
    alive._rng = np.random.RandomState(derived_seed(0, "cmaes", 5 * population))
    assert next_point == arm.params(alive.ask())


def test_cmaes_starts_at_the_best_warm_start() -> None:
    sampler = made("cmaes", SMOOTH, 0)
    names = [d.name for d in SMOOTH.dimensions("task_arithmetic")]
    for place, value in ((0.2, 1.0), (0.6, 2.0)):
        point: Params = {METHOD: "task_arithmetic", **dict.fromkeys(names, place)}
        sampler.tell(Observation(Proposal(point), value, warm_start=True))
    drawn = [asked(sampler, index).params for index in range(50)]
    assert abs(np.mean([[float(p[n]) for n in names] for p in drawn]) - 0.6) < 0.1


def test_cmaes_gives_every_arm_a_generation() -> None:
    proposals = [proposal.params for proposal in trajectory(made("cmaes", MIXED, 0), 60)]
    arms = {(p[METHOD], p.get("slerp.models")) for p in proposals}
    assert len(arms) == 7  # four methods, and slerp of three pairs


def test_unknown_sampler() -> None:
    with pytest.raises(UserError, match="Did you mean 'cmaes'"):
        make_sampler("cmaess", MIXED, 0)


def test_cmaes_needs_numbers() -> None:
    fixed = SearchSpace(SpaceConfig.model_validate({"methods": {"slerp": {"t": 0.5}}}), SUBJECT)
    with pytest.raises(UserError, match="slerp has none"):
        made("cmaes", fixed, 0)

"""The search-quality benchmark on a problem of seconds: what it counts, replays and reports."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.search_quality.arms import merged, run_arm
from benchmarks.search_quality.build import build, problem_folder
from benchmarks.search_quality.problems import PROBLEMS, Problem
from benchmarks.search_quality.records import Outcomes
from benchmarks.search_quality.replay import score_pool
from benchmarks.search_quality.report import tables
from benchmarks.search_quality.skills import Skill
from benchmarks.search_quality.training import Course
from benchmarks.search_quality.truth import Truth

pytestmark = pytest.mark.filterwarnings("default")

COURSE = Course({"S": 1.0, "W": 1.0}, 3, 3e-3)
TINY = Problem(
    "tiny",
    "for this test",
    (Skill("sort", "S"), Skill("swap", "W", "choice")),
    "SW",
    COURSE,
    {"a": replace(COURSE, seed=1), "b": replace(COURSE, seed=2)},
    hidden=16,
    layers=2,
    items=100,
    known={"one": {"a": (1.0, 0.0)}},
)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return Truth(build(TINY, tmp_path_factory.mktemp("cache"), lambda message: None))


def test_a_problem_is_made_once(truth: Truth) -> None:
    made: list[str] = []
    assert build(TINY, truth.folder.parent, made.append) == truth.folder / "search.yaml"
    assert made == []
    assert problem_folder(replace(TINY, items=99), truth.folder.parent) != truth.folder
    assert problem_folder(replace(TINY, known={}), truth.folder.parent) == truth.folder


def test_words_of_tasks_are_not_trained_on() -> None:
    skill = Skill("sort", "S")
    tested = skill.words(200, test=True, seed=0)
    assert len(set(tested)) == 200
    assert not set(tested) & set(skill.words(2000, test=False, seed=0))


def test_replayed_and_real_searches_count_alike(truth: Truth) -> None:
    score_pool(truth, 6, lambda message: None)
    replayed = run_arm(truth, "random", trials=4, seed=0, pool_size=6)
    baselines = len(truth.session.baselines)
    assert replayed.items == (baselines + 4) * truth.count("search")
    assert replayed.steps[0][0] == baselines * truth.count("search")
    raced = run_arm(truth, "random-racing", trials=4, seed=0, pool_size=6)
    assert raced.items <= replayed.items
    searched = run_arm(truth, "tpe", trials=3, seed=0, pool_size=6)
    # Equal recipes are scored once in a search.
    assert searched.items <= (baselines + 3) * truth.count("search")
    assert searched.claims is not None
    assert searched.winner is not None


def test_outcomes_are_read_back(truth: Truth, tmp_path: Path) -> None:
    score_pool(truth, 6, lambda message: None)
    outcomes = Outcomes(tmp_path / "outcomes.jsonl")
    outcome = run_arm(truth, "random", trials=4, seed=1, pool_size=6)
    outcomes.add(outcome)
    again = Outcomes(tmp_path / "outcomes.jsonl")
    assert again.of(truth.folder.name, "random") == [outcome]
    text = tables({"tiny": truth}, again)
    assert f"| random, 4 | 1 | {outcome.final:.3f} |" in text
    assert "known" in text


def test_overrides_are_merged_section_by_section() -> None:
    document = {"search": {"seed": 0, "trials": 5}, "tasks": ["a"]}
    assert merged(document, {"search": {"sampler": "tpe"}, "tasks": ["b"]}) == {
        "search": {"seed": 0, "trials": 5, "sampler": "tpe"},
        "tasks": ["b"],
    }


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=list(PROBLEMS))
def test_problems_are_consistent(problem: Problem) -> None:
    tags = {skill.tag for skill in problem.skills}
    assert len(tags) == len(problem.skills)
    assert set(problem.tasks) <= tags
    for course in (problem.base, *problem.specialists.values()):
        assert set(course.mix) <= tags
    for weights in problem.known.values():
        assert set(weights) <= set(problem.specialists)
    assert problem.items * len(problem.tasks) >= 900

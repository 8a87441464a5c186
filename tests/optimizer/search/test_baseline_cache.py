"""Scores of baselines from earlier runs: taken over if all that they depend on is equal, and never otherwise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Command
from safetensors.torch import load_file, save_file
from tiny_run import write_run, write_search

from mergesmith.evaluators import ItemScores, Scores, ScoringPlan
from mergesmith.evaluators.scoring.scorers import Scorer
from mergesmith.merge_ops import Recipe
from mergesmith.optimizer.commands.driver import _cache
from mergesmith.optimizer.config import load_config
from mergesmith.optimizer.run_folder.run_folder import RunFolder
from mergesmith.optimizer.run_folder.trial import Trial
from mergesmith.optimizer.search.baseline_cache import BaselineCache
from mergesmith.optimizer.session import scored_as
from mergesmith.optimizer.session.scored_as import ScoredAs
from mergesmith.optimizer.session.session import Session

PLAN = ScoringPlan({"mc": Scorer("packed"), "gen": Scorer("loop")}, 4096, 128)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("scores-of-one-test")
    monkeypatch.setenv("MERGESMITH_CACHE", str(folder))
    return folder / "scores"


def trials_of(run: Path) -> list[Trial]:
    return RunFolder.open(run).trials()


def test_the_second_run_takes_over_the_baselines(run_folder: Path, command: Command) -> None:
    search = write_search(run_folder, search={"sampler": "random", "trials": 2})
    first = command("search", search)
    assert first.code == 0, first.err
    assert "earlier run" not in first.out
    second = command("search", search, "--output", run_folder / "second")
    assert second.code == 0, second.err
    runs = [RunFolder.open(run_folder / name) for name in ("run", "second")]
    before, now = (run.trials() for run in runs)
    fresh = [trial for trial in before if trial.name and trial.repeats is None]
    assert f"the scores of {len(fresh)} baselines are those of an earlier run" in second.out
    assert [trial.number for trial in now if trial.reused] == [trial.number for trial in fresh]
    assert not any(trial.reused for trial in before)
    for one, other in zip(before, now, strict=True):
        assert (one.value, one.scores, one.items) == (other.value, other.scores, other.items)
        assert one.answers == other.answers
        assert Trial.from_line(other.to_line()) == other
        ours, theirs = (run.items(one.number, "search") for run in runs)  # the run folder has all of them itself
        assert ours is not None
        assert theirs is not None
        assert all(np.array_equal(ours.items[leaf].values, theirs.items[leaf].values) for leaf in ours.items)
    verdicts = [json.loads((run.path / "verdict.json").read_text()) for run in runs]
    assert verdicts[0] == verdicts[1]
    assert command("replay", run_folder / "second").code == 0  # computes everything
    off = write_search(run_folder, search={"sampler": "random", "trials": 0, "reuse_baselines": False})
    assert command("search", off, "--output", run_folder / "third").code == 0
    assert not any(trial.reused for trial in trials_of(run_folder / "third"))


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write_run(tmp_path)
    (tmp_path / "tasks" / "helper.py").write_text("x = 1\n")
    return tmp_path


def key(folder: Path, *, plan: ScoringPlan = PLAN, at: int = 4, part: Any = "search", **changes: Any) -> str:
    """The key of a baseline (by default the uniform average) after opening everything anew."""
    session = Session(load_config(write_search(folder, **changes)), folder)
    session.use(plan)
    recipe = session.baselines[at][1]
    assert len(recipe.references()) > 1 or at < 4
    return ScoredAs(session).key(recipe, part)


def test_equal_ingredients_have_equal_keys_wherever_they_are(
    world: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = key(world)
    assert key(world) == before
    moved = tmp_path_factory.mktemp("moved")
    shutil.copytree(world, moved, dirs_exist_ok=True)
    assert key(moved) == before


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weight(folder: Path) -> None:
    """One value in the middle of one tensor of one model."""
    (file,) = (folder / "b").glob("*.safetensors")
    tensors = load_file(file)
    name = max(tensors, key=lambda name: tensors[name].numel())
    flat = tensors[name].clone().reshape(-1)
    flat[len(flat) // 2] += 1e-3
    save_file(tensors | {name: flat.reshape(tensors[name].shape)}, file, metadata={"format": "pt"})


def change_document(folder: Path) -> None:
    file = folder / "tasks" / "mc.jsonl"
    lines = file.read_text().splitlines()
    document = json.loads(lines[3])
    lines[3] = json.dumps({**document, "answer": (document["answer"] + 1) % 3})
    file.write_text("\n".join(lines) + "\n")


FILES: dict[str, Callable[[Path], object]] = {
    "weights": change_weight,
    "config.json": lambda folder: edit_json(folder / "b" / "config.json", rms_norm_eps=1e-3),
    "generation_config.json": lambda folder: (folder / "b" / "generation_config.json").write_text('{"top_k": 3}'),
    "tokenizer": lambda folder: edit_json(folder / "base" / "tokenizer_config.json", note="other"),
    "task code": lambda folder: (folder / "tasks" / "helper.py").write_text("x = 2\n"),
}


@pytest.mark.parametrize("change", FILES.values(), ids=FILES)
def test_a_changed_file_has_another_key(change: Callable[[Path], object], world: Path) -> None:
    before = key(world)
    change(world)
    assert key(world) != before


def change_prompt(folder: Path) -> None:
    file = folder / "tasks" / "gen.yaml"
    file.write_text(file.read_text().replace("{{question}}=", "{{question}} ="))


def change_answer_length(folder: Path) -> None:
    file = folder / "tasks" / "gen.yaml"
    file.write_text(file.read_text().replace("max_gen_toks: 2", "max_gen_toks: 3"))


@pytest.mark.parametrize("change", [change_document, change_prompt, change_answer_length])
def test_a_changed_task_has_another_key(change: Callable[[Path], None], world: Path) -> None:
    session = Session(load_config(write_search(world)), world)
    session.use(PLAN)
    recipe = session.baselines[4][1]
    before = ScoredAs(session).key(recipe, "search")
    change(world)
    other = Session(load_config(world / "search.yaml"), world)
    other.use(PLAN)
    assert ScoredAs(other).key(recipe, "search") != before


SETTINGS: dict[str, dict[str, Any]] = {
    "recipe": {"at": 5},
    "part": {"part": "report"},
    "limit": {"tasks": ("mc", {"name": "gen", "limit": 100})},
    "tasks": {"tasks": ("mc",)},
    "blocks": {"scoring": {"batch_size": 128, "block_items": 30}},
    "max_length": {"scoring": {"batch_size": 128, "block_items": 40, "max_length": 60}},
    "split": {"split": {"search": 0.5, "select": 0.25, "report": 0.25}},
    "seed": {"search": {"sampler": "random", "trials": 4, "seed": 1}},
    "scorer": {"plan": replace(PLAN, scorers={"mc": Scorer("rows"), "gen": Scorer("loop")})},
    "budget": {"plan": replace(PLAN, token_budget=2048)},
    "dtype": {"plan": replace(PLAN, dtype="bfloat16")},
    "threads": {"workers": {"threads": 2}},
    "base": {"base_model": "./a", "models": ["./base", "./b", "./c"]},
}


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_a_changed_setting_has_another_key(changes: dict[str, Any], world: Path) -> None:
    before = key(world)
    try:
        assert key(world, **changes) != before
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device_name", lambda device: "another GPU"),
        ("executor_name", lambda device: "torch"),
        ("processor", lambda: "another processor"),
        ("versions", lambda: {"torch": "0.0"}),
        ("package_version", lambda name: "0.0"),
        ("package_code", lambda: "another code"),
    ],
)
def test_another_machine_or_version_has_another_key(
    name: str, value: Any, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key(world)
    monkeypatch.setattr(scored_as, name, value)
    assert key(world) != before


class Fixed(ScoredAs):
    """Keys that the test chooses."""

    def __init__(self, key: str) -> None:
        self.fixed = key

    def key(self, recipe: Recipe, part: Any) -> str:
        return f"{self.fixed} {part}"


ANY = Recipe("passthrough")
SCORED = Scores(
    "search",
    {
        "a/b": ItemScores(("3", "10"), np.array([0.25, np.nan]), np.ones((2, 4)), {"flexible": np.array([1.0, 0.0])}),
        "ppl": ItemScores(("x",), np.array([[1.5, 2.0]])),
    },
)


def test_what_is_kept_comes_back_whole(cache: Path) -> None:
    kept = BaselineCache(Fixed("one"))
    assert kept.load(ANY, "search") is None
    kept.save(ANY, SCORED)
    found = kept.load(ANY, "search")
    assert found is not None
    assert list(found.items) == list(SCORED.items)
    for leaf, items in SCORED.items.items():
        other = found.items[leaf]
        assert other.ids == items.ids
        assert np.array_equal(other.values, items.values, equal_nan=True)
        assert (other.facts is None) == (items.facts is None)
        assert other.by_filter.keys() == items.by_filter.keys()
    assert kept.load(ANY, "select") is None
    assert BaselineCache(Fixed("two")).load(ANY, "search") is None


def test_a_file_that_is_not_what_was_kept_counts_as_missing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = BaselineCache(Fixed("one"))
    kept.save(ANY, SCORED)
    (file,) = cache.iterdir()
    good = file.read_bytes()
    with np.load(file) as stored:
        arrays = dict(stored)
    for changed in (
        {**arrays, "0/values": np.array([1.0, 1.0])},
        {**arrays, "key": np.array("two search")},
        {name: array for name, array in arrays.items() if name != "1/ids"},
    ):
        np.savez(file, **changed)
        assert kept.load(ANY, "search") is None
    for data in (b"", good[:-30], b"x" * 100):
        file.write_bytes(data)
        assert kept.load(ANY, "search") is None
    file.write_bytes(good)
    assert kept.load(ANY, "search") is not None
    monkeypatch.setenv("MERGESMITH_CACHE", str(file))  # not a folder
    kept.save(ANY, SCORED)
    assert kept.load(ANY, "search") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"search": {"reuse_baselines": False}},
        {"tasks": ("mc", {"name": "own", "python": "./objectives.py:own"})},
        {"workers": {"pool": "ray"}},
    ],
)
def test_runs_that_keep_nothing(changes: dict[str, Any], world: Path) -> None:
    (world / "objectives.py").write_text("def own(model, tokenizer, split):\n    return 0.5\n")
    for config, expected in (({}, True), (changes, False)):
        session = Session(load_config(write_search(world, **config)), world)
        session.use(PLAN)
        assert (_cache(session) is not None) == expected

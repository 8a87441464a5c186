"""scoring.dtype: chosen once by a measurement, recorded, and used by every command that scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Command
from tiny_models import write_family
from tiny_run import write_search

from mergesmith.evaluators import ScoringPlan
from mergesmith.merge_ops import materialize
from mergesmith.optimizer.config import load_config
from mergesmith.optimizer.run_folder.run_folder import RunFolder
from mergesmith.optimizer.run_folder.trial import Trial
from mergesmith.optimizer.session import scoring_dtype
from mergesmith.optimizer.session.scoring_dtype import choose_dtype, itemsize, slowdown
from mergesmith.optimizer.session.session import Session

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bfloat16 models and a search.yaml. Not to be written to."""
    folder = tmp_path_factory.mktemp("bfloat16")
    write_family(folder, "llama", layers=2, dtype="bfloat16")
    return folder


@pytest.fixture
def folder(short: Path, tmp_path: Path) -> Path:
    for model in ("base", "a", "b", "c"):
        (tmp_path / model).symlink_to(short / model)
    return tmp_path


def measures(monkeypatch: pytest.MonkeyPatch, times: float) -> None:
    """Let bfloat16 take `times` as long as float32."""
    monkeypatch.setattr(scoring_dtype, "slowdown", lambda *arguments: times)


def session_of(folder: Path, **scoring: Any) -> Session:
    return Session(load_config(write_search(folder, scoring={"block_items": 40, **scoring})), folder)


def test_weights_are_rounded_to_the_recipes_dtype_and_then_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measures(monkeypatch, 2.6)
    session = session_of(folder)
    assert session.scoring_dtype.name == "float32"
    assert "2.6 times as long in bfloat16" in session.scoring_dtype.sentence
    _, recipe = next(pair for pair in session.baselines if "total weight 2" in pair[0])
    model = session.candidate.load(recipe)
    assert model.dtype == torch.float32
    merged = dict(materialize(recipe, session.bank))
    assert {tensor.dtype for tensor in merged.values()} == {torch.bfloat16}
    for name, views in session.live.views.items():
        for view in views:
            assert torch.equal(view.target, merged[name][view.rows].float())
    session.hold_in("bfloat16")
    assert session.candidate.load(recipe).dtype == torch.bfloat16
    session.use(ScoringPlan({}, 100))  # a run from before there was a choice
    assert session.candidate.load(replace(recipe, out_dtype="float32")).dtype == torch.float32


@pytest.mark.parametrize(
    ("wish", "times", "name", "said"),
    [
        ("auto", 0.3, None, "Scored in bfloat16"),
        ("auto", 1.05, None, "Scored in bfloat16"),
        ("auto", 3.0, "float32", "Scored in float32"),
        ("bfloat16", 3.0, "bfloat16", ""),
        ("float32", 0.3, "float32", "as scoring.dtype asks"),
    ],
)
def test_the_choice(
    wish: str, times: float, name: str | None, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measures(monkeypatch, times)
    found = session_of(folder, dtype=wish).scoring_dtype
    assert found.name == name
    assert said in found.sentence
    assert bool(said) == bool(found.sentence)


def test_a_model_that_fits_in_bfloat16_only_stays_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measures(monkeypatch, 3.0)
    monkeypatch.setattr(scoring_dtype, "host_memory", lambda: 1000)
    found = session_of(folder).scoring_dtype
    assert found.name is None
    assert "half of this machine's memory" in found.sentence


def test_float32_models_need_no_measurement(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_dtype, "slowdown", lambda *arguments: pytest.fail("measured"))
    bank = Session(load_config(write_search(run_folder)), run_folder).bank
    assert choose_dtype("auto", out="float32", bank=bank, base_model="./base").name is None


def test_the_measurement() -> None:
    assert slowdown("float32", (300, 300), CPU) == pytest.approx(1.0, abs=0.9)
    assert slowdown("bfloat16", (32, 64), CPU) > 0
    assert [itemsize(name) for name in ("float32", "bfloat16")] == [4, 2]


def test_a_run_keeps_its_dtype_on_any_machine(folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Search, resume, replay, eval and verify score in the recorded dtype, whatever is measured then."""
    measures(monkeypatch, 3.0)
    settings = {"sampler": "random", "trials": 4, "racing": False}
    search = write_search(folder, search=settings)
    planned = command("plan", search)
    assert "Scored in float32, after rounding the weights to bfloat16" in planned.out
    first = command("search", search, "--trials", 2)
    assert first.code == 0, first.err
    assert "Scored in float32" in first.out
    run = folder / "run"
    assert json.loads((run / "scoring.json").read_text())["dtype"] == "float32"
    measures(monkeypatch, 0.5)
    resumed = command("search", search, "--resume")
    assert resumed.code == 0, resumed.err
    assert "Scored in float32" in resumed.out
    explicit = {"batch_size": 128, "block_items": 40, "dtype": "float32"}
    whole = command("search", write_search(folder, search=settings, scoring=explicit), "--output", folder / "whole")
    assert whole.code == 0, whole.err
    assert [t.value for t in trials_of(run)] == [t.value for t in trials_of(folder / "whole")]
    assert command("replay", run).code == 0
    assert "scoring_dtype: float32" in (run / "best.yaml").read_text()
    verified = command("verify", run / "best.yaml")
    assert verified.code == 0, verified.out
    assert "0 of" in verified.out
    changed = command("search", folder / "search.yaml", "--resume")
    assert changed.code == 2
    assert "scoring.dtype" in changed.err


def test_eval_scores_as_the_run_does(folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    measures(monkeypatch, 3.0)
    search = write_search(folder, search={"sampler": "random", "trials": 1}, tasks=("mc", "ppl"))
    assert command("search", search).code == 0
    run = folder / "run"
    measures(monkeypatch, 0.5)
    seen: list[str | None] = []
    held = Session.hold_in
    monkeypatch.setattr(Session, "hold_in", lambda self, dtype: (seen.append(dtype), held(self, dtype))[1])
    assert command("eval", run / "best.yaml", "--config", run / "search.yaml").code == 0
    assert command("eval", run / "best.yaml", "--config", search).code == 0
    assert seen == ["float32", "float32"]


def trials_of(run: Path) -> list[Trial]:
    return RunFolder.open(run).trials()

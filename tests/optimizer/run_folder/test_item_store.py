"""Per-item scores on disk: the same numbers come back, from few bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_runs import SPACE, make_run, make_scores, make_trial

from mergesmith.errors import UserError
from mergesmith.evaluators import ItemScores, Scores
from mergesmith.optimizer.run_folder.item_matrix import ItemMatrix
from mergesmith.optimizer.run_folder.item_store import smallest
from mergesmith.optimizer.run_folder.run_folder import RunFolder
from mergesmith.optimizer.search.optuna_journal import Journal


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run")


def test_items_come_back_as_they_were(run: RunFolder) -> None:
    rng = np.random.default_rng(0)
    ids = ("a", "10", "ä")
    facts = np.array([[1.0, 0.0, 0.0, 17.0], [0.0, 0.0, 1.0, 300.0], [0.0, 1.0, 0.0, 70000.0]])
    items = {
        "group/leaf": ItemScores(ids, np.array([1.0, 0.0, 1.0]), facts),
        "nan": ItemScores(ids, np.array([0.0, np.nan, 1.0])),
        "signed": ItemScores(ids, np.array([-0.0, 1.0, 2.0])),
        "float": ItemScores(ids, rng.normal(size=3)),
        "pairs": ItemScores(ids, rng.normal(size=(3, 2))),
        "large": ItemScores(ids, np.array([1e12, 2.0, 2.0**40])),
        "none": ItemScores((), np.zeros(0)),
    }
    run.save_items(3, Scores("report", items))
    for found in (run.items(3, "report"), RunFolder.open(run.path).items(3, "report")):
        assert found is not None
        assert list(found.items) == list(items)
        for leaf, there in found.items.items():
            assert there.ids == items[leaf].ids
            assert there.values.dtype == np.float64
            assert there.values.tobytes() == items[leaf].values.tobytes()
        assert found.items["nan"].facts is None
        assert (there := found.items["group/leaf"].facts) is not None
        assert np.array_equal(there, facts)
    assert run.items(3, "search") is None
    assert smallest(facts).dtype == np.uint32
    assert smallest(np.array([0.0, 1.0])).dtype == np.uint8


def test_a_dropped_candidate_has_ids_of_its_own(run: RunFolder) -> None:
    whole = make_scores(0)
    part = Scores("search", {t: ItemScores(i.ids[3:7], i.values[3:7]) for t, i in list(whole.items.items())[:2]})
    run.append(make_trial(0), whole)
    run.append(make_trial(1, state="dropped"), part)
    matrix = ItemMatrix.load(RunFolder.open(run.path))
    assert matrix.values.shape == (2, 2000)
    known = np.isfinite(matrix.values[1])
    assert known.sum() == 8
    assert np.array_equal(matrix.values[1][known], matrix.values[0][known])


def test_damaged_or_missing_items_are_told(run: RunFolder) -> None:
    run.save_items(0, make_scores(0))
    (ids,) = (run.path / "items").glob("ids-*")
    ids.rename(run.path / "elsewhere")
    with pytest.raises(UserError, match=r"ids-.* damaged or missing"):
        RunFolder.open(run.path).items(0, "search")
    path = run.path / "items" / "0000.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"0000\.npz is damaged"):
        RunFolder.open(run.path).items(0, "search")


def test_no_pickle_is_read(run: RunFolder) -> None:
    np.savez(run.path / "items" / "0000.npz", ids=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="allow_pickle=False"):
        run.items(0, "search")


def test_size_stays_within_the_stated_bound(run: RunFolder) -> None:
    """What `run_folder.py` states for 10,000 trials of 60 parameters on 2,000 items of three tasks."""
    journal = Journal(run, SPACE)
    trials = 100
    for number in range(trials):
        trial = make_trial(1000 + number)
        run.note("asked", number=trial.number, after=trial.number, params=trial.params)
        run.append(trial, make_scores(number))
        journal.add(trial, {"gsm8k": -0.0123}, 0.0123)
    names = {path: path.stat().st_size for path in run.path.rglob("*") if path.is_file()}
    constant = sum(size for path, size in names.items() if path.name.startswith("ids-"))
    items = sum(size for path, size in names.items() if path.parent.name == "items") - constant
    lines = sum(names[run.path / name] for name in ("trials.jsonl", "events.jsonl", "study.journal"))
    assert sum(path.name.startswith("ids-") for path in names) == 1  # whatever the number of trials
    assert constant < 20_000
    assert 10_000 * items / trials < 20e6
    assert 10_000 * (items + lines) / trials < 250e6
    run.save_items(trials, make_scores(trials, binary=False))
    assert (run.path / "items" / f"{trials:04d}.npz").stat().st_size < 8 * 2000 + 1000

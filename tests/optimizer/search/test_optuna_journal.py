"""The Optuna journal: Optuna reads it, and a resumed run goes on with one that agrees."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from made_runs import SPACE, make_run, make_trial
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from mergesmith.optimizer.run_folder.run_folder import RunFolder
from mergesmith.optimizer.search.optuna_journal import Journal


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run")


def read_journal(run: RunFolder) -> list[optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(run.path / "study.journal")))
    return optuna.load_study(study_name=None, storage=storage).trials


def test_optuna_reads_the_journal(run: RunFolder) -> None:
    journal = Journal(run, SPACE)
    first, failed = make_trial(0), make_trial(1, state="failed", value=None, scores={}, error="no room")
    outside = make_trial(2, name="base", params=None, outside="no point of the space")
    for trial in (first, failed, outside):
        journal.add(trial, {"gsm8k": 0.25} if trial is first else {}, 0.5)
    found = read_journal(run)
    assert [t.number for t in found] == [0, 1, 2]
    assert found[0].params == first.params
    assert found[0].value == first.value
    assert found[0].constraints == {"gsm8k": 0.25}
    assert found[0].user_attrs["stderr"] == 0.5
    expected = {d.name: (d.low, d.high) for d in SPACE.dimensions("task_arithmetic")}  # type: ignore[union-attr]
    given = {name: (d.low, d.high) for name, d in found[0].distributions.items() if name in expected}  # type: ignore
    assert given == expected
    assert found[1].state is optuna.trial.TrialState.FAIL
    assert found[1].user_attrs["error"] == "no room"
    assert found[2].params == {}


def test_a_journal_that_agrees_is_kept(run: RunFolder) -> None:
    trials = [make_trial(n) for n in range(4)]
    journal = Journal(run, SPACE)
    for trial in trials[:3]:
        journal.add(trial, {}, 0.1)
    path = run.path / "study.journal"
    before = path.read_bytes()
    (run.path / "study.journal.lock").touch()
    again = Journal(run, SPACE, trials)  # the last one was not written any more
    assert not (run.path / "study.journal.lock").exists()
    for trial in trials:
        again.add(trial, {}, 0.1)
    after = path.read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == before.count(b"\n") + 1
    assert [t.user_attrs["mergesmith_trial"] for t in read_journal(run)] == [0, 1, 2, 3]


def test_a_torn_line_is_written_again(run: RunFolder) -> None:
    trials = [make_trial(n) for n in range(3)]
    journal = Journal(run, SPACE)
    for trial in trials:
        journal.add(trial, {}, 0.1)
    path = run.path / "study.journal"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    again = Journal(run, SPACE, trials)
    for trial in trials:
        again.add(trial, {}, 0.1)
    assert path.read_bytes().startswith(whole[: whole.rfind(b"\n", 0, -1) + 1])  # the others were kept
    assert [t.params for t in read_journal(run)] == [trial.params for trial in trials]


@pytest.mark.parametrize("fault", ["other trial", "too many", "not a journal", "empty"])
def test_a_journal_that_disagrees_is_rebuilt(fault: str, run: RunFolder) -> None:
    trials = [make_trial(n) for n in range(3)]
    journal = Journal(run, SPACE)
    for trial in [*trials[:2], make_trial(9)] if fault == "other trial" else trials:
        journal.add(trial, {}, 0.1)
    path = run.path / "study.journal"
    if fault == "too many":
        trials = trials[:2]
    elif fault != "other trial":
        path.write_bytes(b"" if fault == "empty" else b"a\nb\nc\nd\n")
    again = Journal(run, SPACE, trials)
    for trial in trials:
        again.add(trial, {}, 0.1)
    assert [t.params for t in read_journal(run)] == [trial.params for trial in trials]

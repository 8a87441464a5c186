"""The Python functions: a search with callbacks, stopped and resumed, and a finished run as data frames and study."""

from __future__ import annotations

import builtins
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_run import write_search

import mergesmith as ms

BASELINES = 10


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """A search.yaml in `folder`, as a mapping."""
    return yaml.safe_load(write_search(folder, **changes).read_text())


@pytest.fixture(scope="module")
def done(models: Path, tmp_path_factory: pytest.TempPathFactory) -> ms.Run:
    """A finished run, not to be changed."""
    folder = tmp_path_factory.mktemp("python")
    for model in ("base", "a", "b", "c"):
        (folder / model).symlink_to(models / model)
    return ms.search(write_search(folder), progress=False)


def test_a_path_a_mapping_and_a_config_give_the_same_run(
    done: ms.Run, run_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run_folder)
    given = settings(run_folder)
    from_mapping = ms.search(given, progress=False, output="from-mapping")
    assert capfd.readouterr().out == ""
    from_config = ms.search(ms.SearchConfig(**given), progress=False, output="from-config", trials=4)
    recorded = [[(t.number, t.state, t.value, t.recipe.digest) for t in run.trials] for run in (from_mapping, done)]
    assert recorded[0] == recorded[1] == [(t.number, t.state, t.value, t.recipe.digest) for t in from_config.trials]
    assert from_mapping.path == run_folder / "from-mapping"
    assert from_mapping.verdict is not None and from_mapping.verdict["report"] == (done.verdict or {})["report"]


def test_callbacks_see_every_trial_and_can_stop_the_search(run_folder: Path) -> None:
    seen: list[tuple[int, Path]] = []

    def stop_after_one_candidate(run: ms.Run, trial: ms.Trial) -> None:
        seen.append((trial.number, run.path))
        if not trial.name:
            run.stop()

    search = write_search(run_folder, search={"sampler": "random", "trials": 6})
    run = ms.search(search, callbacks=[stop_after_one_candidate], progress=False)
    assert seen == [(number, run_folder / "run") for number in range(BASELINES + 1)]
    assert len(run.trials) == BASELINES + 1 and run.verdict is not None
    seen.clear()
    run = ms.search(
        search,
        resume=True,
        callbacks=[lambda run, trial: seen.append((trial.number, run.path))],
        trials=3,
        progress=False,
    )
    assert [number for number, _ in seen] == [BASELINES + 1, BASELINES + 2]


def test_a_stop_during_the_baselines_waits_for_them(run_folder: Path) -> None:
    run = ms.search(write_search(run_folder), callbacks=[lambda run, trial: run.stop()], progress=False)
    assert len(run.trials) == BASELINES
    assert run.best_recipe.facts["found_by"]["trial"] < BASELINES


def test_an_error_in_a_callback_ends_the_search_and_loses_no_trial(run_folder: Path) -> None:
    def fail(run: ms.Run, trial: ms.Trial) -> None:
        if trial.number == 2:
            raise ZeroDivisionError("in the user's code")

    search = write_search(run_folder)
    with pytest.raises(ZeroDivisionError, match="user's code"):
        ms.search(search, callbacks=[fail], progress=False)
    assert [trial.number for trial in ms.load_run(run_folder / "run").trials] == [0, 1, 2]
    assert len(ms.search(search, resume=True, progress=False).trials) == BASELINES + 4


def test_a_run_in_progress_has_no_winner(done: ms.Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("search.yaml", "environment.json", "trials.jsonl", "events.jsonl"):
        (copy / name).write_bytes((done.path / name).read_bytes())
    run = ms.load_run(copy)
    assert run.verdict is None and run.best_trial is not None
    with pytest.raises(ms.UserError, match="has no winner yet"):
        _ = run.best_recipe
    with pytest.raises(ms.UserError, match="holds no run"):
        ms.load_run(tmp_path)


def test_trials_as_a_data_frame(done: ms.Run) -> None:
    frame = done.trials_dataframe()
    assert list(frame.index) == [trial.number for trial in done.trials] == list(range(BASELINES + 4))
    assert frame.loc[0, "baseline"] == "base" and frame["baseline"].notna().sum() == BASELINES
    assert done.best_trial is not None
    assert frame.loc[done.best_trial.number, "value"] == done.best_trial.value
    for trial in done.trials:
        assert frame.loc[trial.number, "score_mc"] == trial.scores["mc"].value
        assert frame.loc[trial.number, "stderr_gen"] == trial.scores["gen"].stderr
        for name, value in (trial.params or {}).items():
            assert frame.loc[trial.number, f"params_{name}"] == value
    assert list(frame["params_method"].dropna()) == [t.params["method"] for t in done.trials if t.params]


def test_values_that_were_unknown_when_recorded_come_from_the_study(done: ms.Run, tmp_path: Path) -> None:
    for name in ("search.yaml", "environment.json", "events.jsonl", "study.journal"):
        (tmp_path / name).write_bytes((done.path / name).read_bytes())
    lines = [json.loads(line) for line in (done.path / "trials.jsonl").read_text().splitlines()]
    lines[1]["value"] = None
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert ms.load_run(tmp_path).trials_dataframe().loc[1, "value"] == done.trials[1].value


def test_items_as_a_data_frame(done: ms.Run) -> None:
    frame = done.items_dataframe("report")
    verdict = done.verdict
    assert verdict is not None
    winner = verdict["winner"]["trial"]
    row = next(row for row in verdict["report"] if row["role"] == "winner")
    assert frame.columns.name == "trial" and frame.index.names == ["task", "item"]
    for task in ("mc", "gen"):
        assert math.isclose(frame.loc[task, winner].mean(), row["scores"][task]["value"])
        assert len(frame.loc[task]) == row["scores"][task]["n"]
    search = done.items_dataframe()
    assert not set(map(tuple, search.index)) & set(map(tuple, frame.index))


def test_the_optuna_study(done: ms.Run) -> None:
    study = done.optuna_study()
    values = {trial.user_attrs["mergesmith_trial"]: trial.value for trial in study.trials}
    assert values == {trial.number: trial.value for trial in done.trials}
    assert done.best_trial is not None
    assert study.best_value == max(t.value or 0.0 for t in done.trials)


def test_without_pandas(done: ms.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    for call in (done.trials_dataframe, done.items_dataframe):
        with pytest.raises(ms.UserError, match=r"pip install 'mergesmith\[pandas\]'"):
            call()


def test_the_report_goes_to_the_named_file(done: ms.Run, tmp_path: Path) -> None:
    assert done.report(tmp_path / "r.html") == tmp_path / "r.html"
    assert (tmp_path / "r.html").read_bytes() == (done.path / "report.html").read_bytes()
    assert done.report(tmp_path / "texts.html", with_texts=True).is_file()


def test_a_complete_run_is_returned_as_it_is(done: ms.Run) -> None:
    before = (done.path / "verdict.json").stat().st_mtime_ns
    again = ms.search(done.path / "search.yaml", resume=True, progress=False)
    assert again.path == done.path and again.verdict == done.verdict
    assert (done.path / "verdict.json").stat().st_mtime_ns == before


def test_unknown_names_are_reported_together(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run_folder)
    given = settings(run_folder, models=["./a", "./nowhere"], space={"methods": ["tie"]})
    with pytest.raises(ms.UserError, match="the configuration: 2 faults"):
        ms.search(given)


def test_merge_and_evaluate(done: ms.Run, tmp_path: Path) -> None:
    check = ms.merge(done.best_recipe, tmp_path / "merged")
    assert check.reproduced and check.written.folder == tmp_path / "merged"
    again = ms.merge(done.path / "best.yaml", tmp_path / "again", model_card=False)
    assert again.written.digest == check.written.digest
    assert ms.load_recipe(done.path / "best.yaml").digest == done.best_recipe.digest

    scored = ms.evaluate(tmp_path / "merged", done.path / "search.yaml", part="select")
    recorded = done.best_recipe.facts["scores"]["select"]
    assert scored["part"] == "select" and scored["n-samples"] == {"mc": 24, "gen": 16}
    assert math.isclose(scored["objective"], recorded["objective"], rel_tol=1e-6)
    for task, metric in (("mc", "acc"), ("gen", "exact_match")):
        assert scored["results"][task][f"{metric},none"] == recorded["tasks"][task]["value"]
        assert scored["results"][task][f"{metric}_stderr,none"] == recorded["tasks"][task]["stderr"]
    assert ms.evaluate(done.best_recipe, done.path / "search.yaml", part="select") == scored


def test_faults_name_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ms.UserError, match="the configuration: trials: 'trials' belongs under search:"):
        ms.search({"base_model": "base", "models": ["a"], "tasks": ["mc"], "trials": 3})
    with pytest.raises(ms.UserError, match=r"nowhere\.yaml"):
        ms.search(tmp_path / "nowhere.yaml")

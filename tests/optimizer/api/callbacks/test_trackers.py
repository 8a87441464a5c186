"""The ready callbacks, with the real libraries and without a network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_run import write_search

import mergesmith as ms

TRIALS = 12  # ten baselines and two candidates


def logged_search(run_folder: Path, callback: ms.Tracker) -> ms.Run:
    search = write_search(run_folder, search={"sampler": "random", "trials": 2})
    return ms.search(search, callbacks=[callback], progress=False)


@pytest.mark.filterwarnings("default")  # of the library
def test_mlflow(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.chdir(tmp_path)  # where MLflow keeps artifacts if it logs to a database
    uri = f"sqlite:///{tmp_path}/mlflow.db" if _has("sqlalchemy") else f"file:{tmp_path}/mlruns"
    run = logged_search(run_folder, ms.MlflowCallback(experiment="merges", tracking_uri=uri))
    client = tracking.MlflowClient(uri)
    (found,) = client.search_runs([client.get_experiment_by_name("merges").experiment_id])
    assert found.info.status == "FINISHED" and found.info.run_name == "run"
    assert found.data.params["models"] == "./a, ./b, ./c" and found.data.params["sampler"] == "random"
    values = {m.step: m.value for m in client.get_metric_history(found.info.run_id, "value")}
    assert values == {trial.number: trial.value for trial in run.trials if trial.complete}
    verdict: Any = run.verdict
    winner = next(row for row in verdict["report"] if row["role"] == "winner")
    assert found.data.metrics["report/winner"] == winner["objective"]
    assert found.data.tags["verdict"].splitlines()[0] == verdict["comparisons"][0]["sentence"]
    assert {file.path for file in client.list_artifacts(found.info.run_id)} == {"best.yaml", "search.yaml"}


@pytest.mark.filterwarnings("default")  # of the library
def test_wandb_offline(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = logged_search(run_folder, ms.WandbCallback(project="merges", mode="offline", dir=str(tmp_path)))
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    rows, summary = logged(file)
    deadline = time.monotonic() + 60
    while "winner_trial" not in summary and time.monotonic() < deadline:  # another process writes the file
        time.sleep(0.2)
        rows, summary = logged(file)
    assert [int(row["trial"]) for row in rows] == [trial.number for trial in run.trials] == list(range(TRIALS))
    for row, trial in zip(rows, run.trials, strict=True):
        assert float(row["estimated_value" if trial.dropped else "value"]) == trial.value
    verdict: Any = run.verdict
    assert int(summary["winner_trial"]) == verdict["winner"]["trial"]


def logged(file: Path) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The rows of the history and the summary in a .wandb file, as JSON by name."""
    rows: list[dict[str, str]] = []
    summary: dict[str, str] = {}
    for record in wandb_records(file.read_bytes()):
        if record.WhichOneof("record_type") == "history":
            rows.append({".".join(item.nested_key) or item.key: item.value_json for item in record.history.item})
        if record.WhichOneof("record_type") == "summary":
            summary |= {".".join(item.nested_key) or item.key: item.value_json for item in record.summary.update}
    return rows, summary


def wandb_records(data: bytes) -> Iterator[Any]:
    """The records of a .wandb file: LevelDB's log format, in blocks of 32 kB, after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2  # pyright: ignore[reportMissingImports]

    pb2: Any = wandb_internal_pb2
    at, text, block, full, last = 7, b"", 1 << 15, 1, 4
    while at + 7 <= len(data):
        if block - at % block < 7:  # too little room for another header
            at += block - at % block
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        text += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (full, last):
            record = pb2.Record()
            record.ParseFromString(text)
            yield record
            text = b""


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ms.UserError, match=r"pip install 'mergesmith\[wandb\]'"):
        ms.WandbCallback()
    with pytest.raises(ms.UserError, match=r"pip install 'mergesmith\[mlflow\]'"):
        ms.MlflowCallback()


def _has(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None

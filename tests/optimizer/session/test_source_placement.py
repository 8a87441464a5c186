"""`workers.gpus_per_worker`: which devices, what lies on them, what `plan` says, and a search that nothing changes.

Where GPUs are needed they are pretended (`pretend_devices.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Command
from pretend_devices import DEVICES, pretended_devices, pretending_threads
from tiny_run import write_search

from mergesmith.errors import UserError
from mergesmith.merge_ops import ModelBank, Recipe, Setting, Source, plan_merge, read_recipe
from mergesmith.optimizer.config import WorkersSection, parse_config
from mergesmith.optimizer.session.devices import pick_devices
from mergesmith.optimizer.session.source_placement import ROOM, Placement, matrices_per_tensor, place_sources

TWO = DEVICES[:2]
CUDA = (torch.device("cuda", 0), torch.device("cuda", 1))


def visible(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_a_worker_takes_the_first_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    visible(3, monkeypatch)
    for name in ("auto", "cuda"):
        assert pick_devices(name, "workers.device", 2) == CUDA
    assert pick_devices("cpu", "workers.device", 1) == (torch.device("cpu"),)


@pytest.mark.parametrize(
    ("name", "here", "said"),
    [
        ("cuda", 1, r"^workers\.gpus_per_worker: a worker must see 2 CUDA devices, but 1 are here; lower it"),
        ("auto", 0, r"^workers\.gpus_per_worker: a worker must see 2 CUDA devices, but 0 are here"),
        ("cpu", 2, r"^workers\.gpus_per_worker: 2 needs workers\.device: cuda \(or auto\), but it is 'cpu'"),
        ("cuda:1", 2, r"but it is 'cuda:1'; leave one of them out"),
    ],
)
def test_too_few_devices(name: str, here: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    visible(here, monkeypatch)
    with pytest.raises(UserError, match=said):
        pick_devices(name, "workers.device", 2)


def test_only_shares_of_a_gpu_and_whole_ones() -> None:
    for value in (None, 0, 0.25, 1, 2, 8.0):
        assert WorkersSection(gpus_per_worker=value).gpus_per_worker == value
    document = {"base_model": "a", "models": ["b"], "tasks": ["t"]}
    for value in (-1, 1.5, float("inf"), float("nan")):
        with pytest.raises(UserError, match=r"workers\.gpus_per_worker: must be a share of a GPU, .* but is"):
            parse_config({**document, "workers": {"gpus_per_worker": value}}, where="search.yaml")


def placed(
    models: Path, free: tuple[float, ...], *, wish: str = "auto", methods: tuple[str, ...] = ("linear",)
) -> Placement:
    """The tiny models over devices with so many times the memory that one of them takes."""
    names = [str(models / name) for name in ("base", "a", "b", "c")]
    bank = ModelBank(names)
    recipe = Recipe("linear", models=tuple(map(Source, names)), parameters={"weight": Setting.constant(1.0)})
    plan = plan_merge(recipe, bank)
    devices = tuple(torch.device("cuda", i) for i in range(len(free)))
    memory = [round(times * bank[names[0]].nbytes) for times in free]
    return place_sources(plan, bank, devices, memory, wish=wish, spectral=matrices_per_tensor(methods))


def test_sources_are_kept_where_they_fit(models: Path) -> None:
    total = ModelBank([str(models / "base")])[str(models / "base")].nbytes
    one = placed(models, (5 / ROOM + 0.1,))
    assert one.resident and not one.loads and list(one.sentences()) == []
    assert one.words.startswith("kept on the device: sources and live model need 0.0 GB, ")
    assert not placed(models, (5 / ROOM - 0.1,)).resident
    # Four sources and the live model, shared out: neither device could hold them.
    two = placed(models, (4.0, 4.0))
    assert two.resident and set(two.homes.values()) == set(CUDA)
    assert sum(load.sources for load in two.loads.values()) == 4 * total
    assert all(load.needed <= load.room < 5 * total for load in two.loads.values())
    assert two.words.startswith("kept on the devices: ") and "the fullest of 2" in two.words
    first, second = two.sentences()
    assert first.startswith("cuda:0: ") and "of sources and matrices" in first and second.startswith("cuda:1: ")
    host = placed(models, (2.0, 2.0))
    assert not host.resident and host.homes and "in the host's memory: " in host.words
    assert "of sources" not in next(host.sentences())
    assert not placed(models, (90.0, 90.0), wish="host").resident


def test_merged_matrices_need_room_too(models: Path) -> None:
    assert placed(models, (4.0, 4.0)).resident
    assert not placed(models, (4.0, 4.0), methods=("linear", "iso_c", "tsv")).resident


def test_what_does_not_fit_is_said(models: Path) -> None:
    with pytest.raises(UserError, match=r"^bank: device: .* need .* on cuda:\d, .* use bank: host"):
        placed(models, (2.0, 2.0), wish="device")
    with pytest.raises(UserError, match=r"^workers\.gpus_per_worker: its 2 devices must hold a candidate.*use more"):
        placed(models, (0.5, 0.5))


def lines(folder: Path) -> list[Any]:
    """The trials of a run, without their times."""
    found = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    return [_timeless(trial) for trial in found]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(own) for key, own in value.items() if "seconds" not in key and "time" not in key}
    return [_timeless(own) for own in value] if isinstance(value, list) else value


def test_a_search_is_the_same_over_two_devices(
    run_folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = "mergesmith.optimizer.session.session"
    monkeypatch.setattr("mergesmith.merge_ops.bank.model_bank.ThreadPoolExecutor", pretending_threads)
    space = {"methods": ["ties"], "filters": []}
    scoring = {"batch_size": 128, "block_items": 40, "token_budget": 4096}
    sampling = {"sampler": "random", "trials": 1}
    search = write_search(run_folder, models=["./a"], search=sampling, space=space, scoring=scoring, tasks=("mc",))
    done = command("search", search, "--output", run_folder / "1")
    assert done.code == 0, done
    monkeypatch.setattr(f"{session}.free_memory", lambda *_: 10**9)
    monkeypatch.setattr(f"{session}.pick_devices", lambda *_: TWO)
    with pretended_devices():
        told = command("plan", search)
        assert told.code == 0, told
        assert "Devices: maia:0, maia:1. Sources: " in told.out and "kept on the devices: " in told.out
        assert "maia:1: " in told.out
        done = command("search", search, "--output", run_folder / "2")
        assert done.code == 0, done
    assert lines(run_folder / "1") == lines(run_folder / "2")
    one, two = (read_recipe(run_folder / name / "best.yaml").facts["weights_digest"] for name in "12")
    assert one == two


@pytest.mark.parametrize("times", [1.0, 1.2, 1.3])
def test_a_model_too_large_for_one_device_is_refused_by_name(models: Path, times: float) -> None:
    expected = rf"workers\.device: a candidate of the size of '{models / 'base'}' needs .* GB of cuda:0 are free"
    with pytest.raises(UserError, match=expected):
        placed(models, (times,))


def test_the_buffers_of_streamed_sources_are_counted(models: Path) -> None:
    words = placed(models, (5.5,)).words
    assert "in the host's memory: " in words and words.endswith("; buffers to copy them take up to 0.0 GB")

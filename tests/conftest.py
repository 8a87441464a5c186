"""What every test shares: one thread, no network, and tiny checkpoints that are written once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before huggingface_hub is imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from torch.utils import collect_env

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported; with a GPU the kernels are run there

from tiny_models import write_family
from untraced import compile_untraced

torch.set_num_threads(1)  # two threads on busy cores are slower than one
collect_env.get_pretty_env_info = lambda: ""  # lm-eval asks for it in every evaluation, and it runs `pip list`


compile_untraced()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        (cache / "scores").touch()  # not a folder, so that no test takes over the scores of another
        patch.setenv("MERGESMITH_CACHE", str(cache))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """Leave out fsync, which takes milliseconds and matters only if the machine loses power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny Llamas base, a, b and c. Not to be written to."""
    folder = tmp_path_factory.mktemp("llama")
    write_family(folder, "llama")
    return folder


@pytest.fixture
def in_llama(llama: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as working directory."""
    monkeypatch.chdir(llama)
    return llama


@pytest.fixture
def code_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A new folder for transformers' copies of the code in checkpoints, and no modules imported from another one."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]:
            del sys.modules[name]

    forget()
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    # Another folder of such copies that an earlier test has put on the path would be searched first.
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not Path(path, "transformers_modules").is_dir()])
    yield
    forget()


@pytest.fixture
def short_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval's index of built-in tasks, cut to two: reading the whole takes seconds, and one test does."""
    from lm_eval.tasks._index import Entry, Kind

    names = ("gsm8k", "piqa")
    index = {name: Entry(name=name, kind=Kind.TASK, yaml_path=None, cfg={"task": name}) for name in names}
    monkeypatch.setattr(
        "mergesmith.evaluators.tasks.catalog.built_in_tasks", lambda: SimpleNamespace(task_index=dict(index))
    )

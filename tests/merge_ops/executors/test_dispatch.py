"""Kernels are chosen only if a first launch works; otherwise torch operations merge, and the reason is given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from mergesmith.merge_ops import executor_name, kernel_report
from mergesmith.merge_ops.executors import dispatch
from mergesmith.merge_ops.executors.dispatch import SlowMergeWarning
from mergesmith.merge_ops.executors.gpu import probe

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NO_COMPILER = RuntimeError("Failed to find C compiler. Please specify via CC environment variable.\nmore lines")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    dispatch._load.cache_clear()
    yield
    dispatch._load.cache_clear()


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def check(_device: torch.device) -> None:
        raise error

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(probe, "check_kernels", check)


def test_the_probe_passes_where_kernels_run() -> None:
    probe.check_kernels(DEVICE)


def test_a_kernel_with_wrong_results_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "run_all", lambda _jobs: None)
    with pytest.raises(RuntimeError, match="other values than torch operations"):
        probe.check_kernels(DEVICE)


@pytest.mark.parametrize(
    "error", [NO_COMPILER, PermissionError(13, "Permission denied: '/root/.triton'"), AssertionError("libcuda.so")]
)
def test_without_a_working_compiler_torch_merges(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, error)
    monkeypatch.setattr(dispatch, "c_compiler", lambda: None)
    first = str(error).partition("\n")[0]
    with pytest.warns(SlowMergeWarning) as caught:
        assert executor_name("cuda") == "torch"
    assert first in str(caught[0].message) and "install gcc, or set CC" in str(caught[0].message)
    assert first in kernel_report("cuda") and "slower torch operations merge" in kernel_report("cuda")


def test_a_full_device_says_nothing_about_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        executor_name("cuda")


def test_working_kernels_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel_report("cpu") == "Merge kernels: numba."
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(probe, "check_kernels", lambda _device: None)
    monkeypatch.setattr(dispatch, "c_compiler", lambda: "/usr/bin/gcc")
    assert kernel_report("cuda") == "Merge kernels: triton (C compiler: /usr/bin/gcc)."

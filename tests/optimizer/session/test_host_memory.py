"""Host memory: the limit of a container or a Slurm job counts, and plan reports whether sources are page-locked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mergesmith.optimizer.session import host_memory as memory
from mergesmith.optimizer.session.pinning import Pinning


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OF_THIS_PROCESS", tmp_path / "of_this_process")
    monkeypatch.setattr(memory, "machine_memory", lambda: 2 << 40)
    return tmp_path


def test_without_limits_the_machine_counts(groups: Path) -> None:
    (groups / "memory.max").write_text("max\n")
    assert memory.host_memory() == 2 << 40


def test_a_container_sees_its_limit_at_the_root(groups: Path) -> None:
    (groups / "memory.max").write_text(f"{64 << 30}\n")
    assert memory.host_memory() == 64 << 30


def test_the_limit_of_a_parent_counts(groups: Path) -> None:
    (groups / "of_this_process").write_text("0::/slurm/job_7/step_0\n")
    folder = groups / "slurm" / "job_7"
    (folder / "step_0").mkdir(parents=True)
    (folder / "memory.max").write_text(f"{32 << 30}\n")
    (folder / "step_0" / "memory.max").write_text("max\n")
    assert memory.host_memory() == 32 << 30


def test_version_1(groups: Path) -> None:
    (groups / "of_this_process").write_text("5:cpu,cpuacct:/a\n4:memory:/docker/b\n")
    folder = groups / "memory" / "docker" / "b"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{16 << 30}\n")
    assert memory.host_memory() == 16 << 30


@pytest.mark.parametrize(
    ("needed", "failed", "expected"),
    [(10, False, "are page-locked: "), (10, True, "in part only"), (60, False, "are not page-locked")],
)
def test_plan_says_whether_sources_are_pinned(needed: int, failed: bool, expected: str) -> None:
    bank: Any = SimpleNamespace(tensors=SimpleNamespace(streams=True, pin_failed=failed))
    assert expected in next(Pinning(needed << 30, 50 << 30).sentences(bank))
    bank.tensors.streams = False
    assert not list(Pinning(needed << 30, 50 << 30).sentences(bank))

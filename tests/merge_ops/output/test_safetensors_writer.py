"""Files written tensor by tensor, beside the making of the next ones."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mergesmith.merge_ops import WeightsDigest
from mergesmith.merge_ops.checkpoints.background import Background
from mergesmith.merge_ops.checkpoints.weight_files import TensorSpec
from mergesmith.merge_ops.output import safetensors_writer as shards
from mergesmith.merge_ops.output.safetensors_writer import write_shards

TENSORS = {
    "a": torch.arange(7, dtype=torch.bfloat16),
    "b": torch.arange(12, dtype=torch.float64).reshape(3, 4).T,  # not contiguous
    "c": torch.tensor([True, False, True]),
    "d": torch.tensor(2.5),
    "e": torch.empty(0, 3),
    "f": torch.arange(5).to(torch.float16),
}
SPECS = {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in TENSORS.items()}


def test_one_file_is_what_safetensors_writes(tmp_path: Path) -> None:
    names, digest = write_shards(iter(TENSORS.items()), SPECS, tmp_path, 1 << 20)
    assert names == ["model.safetensors"]
    assert digest.hex == WeightsDigest.of(TENSORS.items()).hex
    found = load_file(tmp_path / names[0])
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())
    one_width = {name: tensor for name, tensor in TENSORS.items() if tensor.element_size() == 2}
    specs = {name: SPECS[name] for name in one_width}
    save_file(one_width, tmp_path / "theirs", {"format": "pt"})
    (tmp_path / "ours").mkdir()
    write_shards(iter(one_width.items()), specs, tmp_path / "ours", 1 << 20)
    ours, theirs = ((tmp_path / path).read_bytes() for path in ("ours/model.safetensors", "theirs"))
    assert ours[-24:] == theirs[-24:]
    assert len(ours) == len(theirs)


def test_many_files_are_not_open_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most, begin = 0, shards._begin

    def count(*arguments: Any) -> dict[str, int]:
        nonlocal most
        most = max(most, sum(tmp_path in path.parents for path in open_files()))
        return begin(*arguments)

    monkeypatch.setattr(shards, "_begin", count)
    names, _ = shards.write_shards(iter(TENSORS.items()), SPECS, tmp_path, 1)
    assert len(names) == len(TENSORS) + 1
    assert most == 1


def open_files() -> list[Path]:
    """What this process has open."""
    return [link.readlink() for link in list(Path("/proc/self/fd").iterdir()) if link.is_symlink()]


@pytest.mark.parametrize("stream", [{**TENSORS, "d": torch.zeros(2)}, {"a": TENSORS["a"]}], ids=["other", "missing"])
def test_what_was_not_announced(tmp_path: Path, stream: dict[str, torch.Tensor]) -> None:
    with pytest.raises(RuntimeError, match=r"'d' should be|no tensor for \['b'"):
        write_shards(iter(stream.items()), SPECS, tmp_path, 1 << 20)


def test_errors_of_other_threads_are_told() -> None:
    def fail(tensor: torch.Tensor) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"), Background(1) as background:
        background.submit(fail, torch.zeros(1))


def test_what_waits_is_bounded() -> None:
    started, go = threading.Semaphore(0), threading.Event()
    done: list[int] = []

    def work(tensor: torch.Tensor) -> None:
        started.release()
        go.wait(10)
        done.append(len(tensor))

    def feed() -> None:
        with Background(1, pending=100) as background:
            for _ in range(3):
                background.submit(work, torch.zeros(15))  # 60 bytes: the second waits for the first
                fed.append(1)

    fed: list[int] = []
    thread = threading.Thread(target=feed)
    thread.start()
    started.acquire(timeout=10)
    assert len(fed) <= 1
    go.set()
    thread.join(10)
    assert done == [15, 15, 15]

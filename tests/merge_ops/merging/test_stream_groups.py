"""Groups of streamed tensors are limited in bytes, and a larger tensor is alone on the device."""

from __future__ import annotations

import pytest
import torch

from mergesmith.merge_ops.merging import host_streaming
from mergesmith.merge_ops.merging.host_streaming import buffer_bytes, streamed

CPU = torch.device("cpu")


def test_no_more_memory_is_taken_than_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_streaming, "GROUP_BYTES", 4096)
    buffers: list[host_streaming._Buffer] = []
    create = host_streaming._Buffer.__init__

    def recording(self: host_streaming._Buffer, lane: host_streaming._Lane) -> None:
        create(self, lane)
        buffers.append(self)

    monkeypatch.setattr(host_streaming._Buffer, "__init__", recording)
    sizes = [512, 1024, 9000, 4096, 512, 20000, 30000, 512]  # bytes; three groups exceed the limit
    groups = [[torch.full((size,), i, dtype=torch.uint8)] for i, size in enumerate(sizes)]
    most = 0
    for i, (copy,) in enumerate(streamed(groups, CPU)):
        assert bool((copy == i).all()) and len(copy) == sizes[i]
        most = max(most, sum(len(buffer._memory) for buffer in buffers))
    assert 30000 <= most <= buffer_bytes(30000, sum(sizes)) + host_streaming.ALIGNMENT


def test_the_memory_that_streaming_takes() -> None:
    assert buffer_bytes(100, 1 << 40) == 512 << 20  # two groups
    assert buffer_bytes(4 << 30, 1 << 40) == 4 << 30  # the embeddings of four sources
    assert buffer_bytes(100, 1000) == 1000

"""Page-locked memory: blocks take little more than their tensors, and a failure leaves tensors unpinned."""

from __future__ import annotations

import pytest
import torch

from mergesmith.merge_ops.bank.pinned_memory import BLOCK_BYTES, PinnedMemory, PinnedMemoryWarning, pinned_bytes


def test_blocks_take_little_more_than_their_tensors() -> None:
    up, down, attention, norm = 18944 * 3584 * 2, 18944 * 3584 * 2, 3584 * 3584 * 2, 3584 * 2
    sizes = [152064 * 3584 * 2, *([up, up, down, attention, attention, norm] * 28)]  # as in Qwen2.5-7B
    assert sum(1 << (size - 1).bit_length() for size in sizes) > 1.7 * sum(sizes)  # one allocation per tensor
    assert pinned_bytes(sizes) < 1.15 * sum(sizes)


@pytest.mark.parametrize("size", [1, 1000, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_every_block_is_a_power_of_two(size: int) -> None:
    taken = pinned_bytes([size])
    assert taken >= size and taken & (taken - 1) == 0


def test_copies_are_equal_and_do_not_overlap() -> None:
    memory = PinnedMemory(lambda nbytes: torch.empty(nbytes, dtype=torch.uint8))
    tensors = [torch.randn(shape).to(torch.bfloat16) for shape in ((3, 5), (700,), (0, 4), (), (64, 33))]
    tensors.append(torch.randn(6, 4).t())  # not contiguous
    copies = [memory.copy(x) for x in tensors]
    assert all(torch.equal(a, b) and a.is_contiguous() for a, b in zip(copies, tensors, strict=True))
    assert len({x.data_ptr() for x in copies if x.numel()}) == sum(x.numel() > 0 for x in tensors)


def test_a_failed_pin_warns_once_and_leaves_tensors_unpinned() -> None:
    def allocate(nbytes: int) -> torch.Tensor:
        if nbytes > 1 << 12:
            raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported asynchronously")
        return torch.empty(nbytes, dtype=torch.uint8)

    memory = PinnedMemory(allocate)
    first, large = torch.ones(100), torch.ones(10_000)
    assert memory.copy(first) is not first
    with pytest.warns(PinnedMemoryWarning, match="CUDA error: out of memory; raise the limit"):
        assert memory.copy(large) is large
    assert memory.copy(large) is large and memory.failed

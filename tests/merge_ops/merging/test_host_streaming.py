"""Sources from the host's memory: two buffers in turn, and the same merged tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mergesmith.merge_ops import LiveModel, ModelBank, Recipe, Residency, Setting, Source
from mergesmith.merge_ops.bank.residency import ResidentTensors
from mergesmith.merge_ops.merging.host_streaming import BUFFERS, streamed

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def test_every_group_arrives_in_order_and_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [[(3, 5), (7,)], [(1000,)], [], [(2, 2), (0, 4), ()], [(64, 33)], [(5,)]]
    dtypes = (torch.bfloat16, torch.float32, torch.float16)
    groups = [
        [torch.randn(shape, generator=generator).to(dtypes[i % 3]) for i, shape in enumerate(group)] for group in shapes
    ]
    places = set()
    for sent, arrived in zip(groups, streamed(groups, DEVICE), strict=True):
        assert [x.dtype for x in arrived] == [x.dtype for x in sent]
        assert all(torch.equal(a.cpu(), b) for a, b in zip(arrived, sent, strict=True))
        assert all(x.device.type == DEVICE.type and x.data_ptr() % 16 == 0 for x in arrived)
        places |= {x.untyped_storage().data_ptr() for x in arrived if x.numel()}
    assert places


def test_only_so_many_groups_are_there_at_a_time() -> None:
    taken = 0

    def groups():
        nonlocal taken
        for i in range(10):
            taken += 1
            yield [torch.full((100,), float(i))]

    storages = set()
    for given, (tensor,) in enumerate(streamed(groups(), DEVICE)):
        assert taken <= given + BUFFERS
        assert float(tensor[0]) == given
        storages.add(tensor.untyped_storage().data_ptr())
    assert len(storages) == BUFFERS


@pytest.mark.parametrize("method", ["ties", "slerp"])
def test_candidates_are_the_same_from_streamed_sources(
    method: str, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [str(llama / name) for name in (("base", "a") if method == "slerp" else ("base", "a", "b"))]
    weight = {"t": Setting.constant(0.3)} if method == "slerp" else {"weight": Setting.constant(0.7)}
    recipe = Recipe(
        method,
        models=tuple(Source(name) for name in names),
        base_model=names[0],
        parameters={**weight} | ({"density": Setting.constant(0.4)} if method == "ties" else {}),
        dtype="bfloat16",
    )
    expected = LiveModel(ModelBank(names, device=DEVICE))
    expected.load(recipe)
    bank = ModelBank(names, device=DEVICE, residency=Residency(pinned=DEVICE.type == "cuda"))
    monkeypatch.setattr(ResidentTensors, "streams", True)
    found = LiveModel(bank)
    for _ in range(2):
        found.load(recipe)
        for name, tensor in expected.model.state_dict().items():
            assert torch.equal(found.model.state_dict()[name], tensor), name
    assert not bank.tensors._staged

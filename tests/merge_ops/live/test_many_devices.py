"""Models over several devices: the bits of one device.

The devices are pretended (`pretend_devices.py`): they refuse tensors of one another as GPUs do, and compute as the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import write_models
from pretend_devices import DEVICES, pretended_devices, pretending_threads
from tiny_models import write_model

from mergesmith.merge_ops import (
    LiveModel,
    ModelBank,
    Recipe,
    Residency,
    WeightsDigest,
    materialize,
    parse_recipe,
    plan_merge,
)
from mergesmith.merge_ops.live.device_map import places_of

TOKENS = torch.tensor([[1, 7, 4, 20, 33, 9, 2], [1, 5, 30, 30, 8, 6, 41]])
TWO = DEVICES[:2]

TIES = """
merge_method: ties
base_model: base
models:
  - {model: a, parameters: {weight: [0.2, 0.9], density: 0.6}}
  - {model: b, parameters: {weight: 0.5, density: [0.3, 1]}}
"""
LINEAR = """
merge_method: linear
models: [{model: base}, {model: a}, {model: b}]
parameters: {weight: 0.3}
"""
SLERP = """
merge_method: slerp
base_model: base
models: [{model: base}, {model: a}]
parameters: {t: [0.2, 0.9]}
"""
STACK = """
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 4]}]
  - sources: [{model: b, layer_range: [1, 4]}]
"""
SPECTRAL = """
merge_method: iso_c
base_model: base
models: [{model: a}, {model: b}]
parameters: {lambda: 0.8}
"""
INNER = """
merge_method: linear
models: [{model: inner, parameters: {weight: 0.5}}, {model: base, parameters: {weight: 0.5}}]
---
name: inner
merge_method: linear
models: [{model: a, parameters: {weight: 0.3}}, {model: b, parameters: {weight: 0.7}}]
"""


@pytest.fixture
def pretended() -> Iterator[None]:
    with pretended_devices():
        yield


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes the models of a family into the working directory."""
    monkeypatch.chdir(tmp_path)
    return lambda family, **overrides: write_models(tmp_path, family, **overrides)


def opened(*, resident: bool = True) -> ModelBank:
    residency = Residency(resident=resident, keep_deltas=True)
    return ModelBank(["base", "a", "b"], device=DEVICES[0], residency=residency)


def with_homes(bank: ModelBank, recipe: Recipe, devices: tuple[torch.device, ...]) -> ModelBank:
    homes = places_of(plan_merge(recipe, bank), bank, devices, (1,) * len(devices)).homes
    return bank.with_residency(replace(bank.residency, homes=homes))


def over(devices: tuple[torch.device, ...], recipe: Recipe, *, resident: bool = True) -> LiveModel:
    """A live model over these devices, with homes for its sources as a session sets them."""
    bank = opened(resident=resident)
    if len(devices) > 1:
        bank = with_homes(bank, recipe, devices)
    live = LiveModel(bank, devices=devices)
    live.load(recipe)
    return live


@torch.no_grad()
def logits(live: LiveModel) -> torch.Tensor:
    found = live.model(TOKENS.to(DEVICES[0])).logits
    assert found.device == DEVICES[0]
    return found.to("cpu")


def bits(live: LiveModel) -> dict[str, torch.Tensor]:
    return {name: tensor.to("cpu") for name, tensor in live.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def places(live: LiveModel) -> dict[str, torch.device]:
    return {name: tensor.device for name, tensor in live.model.state_dict().items()}


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize("family", ["qwen2", "gpt2", "mixtral"])
def test_two_devices_give_the_bits_of_one(family: str, models: Any) -> None:
    models(family)
    recipe = parse_recipe(TIES)
    one, two = over(DEVICES[:1], recipe), over(TWO, recipe)
    assert set(places(one).values()) == {DEVICES[0]} and set(places(two).values()) == set(TWO)
    assert same(bits(one), bits(two))
    assert torch.equal(logits(one), logits(two))
    model: Any = two.model
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == (family in ("qwen2", "gpt2"))


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize(
    ("text", "resident"),
    [(TIES, False), (SLERP, True), (SPECTRAL, True), (INNER, False)],
    ids=["ties streamed", "slerp", "iso_c", "intermediate streamed"],
)
def test_every_way_to_merge(text: str, resident: bool, models: Any) -> None:
    models("llama", num_hidden_layers=3)
    recipe = parse_recipe(f"{text}\ndtype: float32\nout_dtype: bfloat16\n" if "---" not in text else text)
    one, three = over(DEVICES[:1], recipe, resident=resident), over(DEVICES, recipe, resident=resident)
    assert set(places(three).values()) == set(DEVICES)
    assert same(bits(one), bits(three))
    digest = WeightsDigest()
    three.load(recipe, digest=digest)
    assert digest.hex == WeightsDigest.of(materialize(recipe, three.bank)).hex


@pytest.mark.usefixtures("pretended")
def test_each_source_is_kept_once_where_its_output_lies(models: Any) -> None:
    models("llama")
    live = over(TWO, parse_recipe(LINEAR))
    told: list[int] = []
    live.bank.load(told.append)
    assert sum(told) == sum(live.bank[name].nbytes for name in ("base", "a", "b"))
    kept = live.bank.tensors._kept
    assert len(kept) == 3 * len(live.bank["base"].entries)
    for (_, name), tensor in kept.items():
        assert tensor.device == live.bank.residency.homes[name] == places(live)[name]
    # In layers that a stack moves to the other device they are copied, not kept again.
    live.load(parse_recipe(STACK))
    assert live.bank.tensors._kept.keys() == kept.keys()
    assert all(tensor.device == live.bank.residency.homes[name] for (_, name), tensor in kept.items())


@pytest.mark.usefixtures("pretended")
def test_sources_are_read_to_their_homes_before_a_model_is_built(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    models("llama")
    monkeypatch.setattr("mergesmith.merge_ops.bank.model_bank.ThreadPoolExecutor", pretending_threads)
    bank = with_homes(opened(), parse_recipe(LINEAR), TWO)
    bank.load(lambda _: None)
    assert {tensor.device for tensor in bank.tensors._kept.values()} == set(TWO)
    assert all(tensor.device == bank.residency.homes[name] for (_, name), tensor in bank.tensors._kept.items())


@pytest.mark.usefixtures("pretended")
def test_candidates_of_another_depth_have_a_map_of_their_own(models: Any) -> None:
    models("llama")
    one, two = over(DEVICES[:1], parse_recipe(LINEAR)), over(TWO, parse_recipe(LINEAR))
    for text in (STACK, LINEAR):
        for live in (one, two):
            live.load(parse_recipe(text))
        assert two.model.config.num_hidden_layers == (7 if text is STACK else 4)
        layers = [
            two.model.model.layers[i].mlp.up_proj.weight.device for i in range(two.model.config.num_hidden_layers)
        ]
        assert layers == sorted(layers, key=str) and set(layers) == set(TWO)
        assert same(bits(one), bits(two))
        assert torch.equal(logits(one), logits(two))


@pytest.mark.usefixtures("pretended")
def test_what_is_there_is_not_written_again(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    models("llama")
    live = over(TWO, parse_recipe(TIES))
    merged: list[str] = []

    def counted(plan: Any, tasks: Any, *args: Any) -> Any:
        merged.extend(task.name for task in tasks)
        return iter(())

    monkeypatch.setattr("mergesmith.merge_ops.live.live_model.merge_in_batches", counted)
    live.load(parse_recipe(TIES))
    assert not merged
    live.load(parse_recipe(TIES.replace("density: 0.6", "density: 0.7")))
    assert merged


def test_one_device_has_no_hooks(models: Any) -> None:
    models("llama")
    live = LiveModel(ModelBank(["base", "a", "b"]), devices=(torch.device("cpu"),))
    live.load(parse_recipe(TIES))
    assert not any(hasattr(module, "_hf_hook") for module in live.model.modules())
    assert not live.bank._banks


@pytest.mark.usefixtures("pretended")
def test_the_pretended_devices_refuse_each_other() -> None:
    a, b = torch.ones(3, device=DEVICES[0]), torch.ones(3).to(DEVICES[1])
    for wrong in (
        lambda: a + b,
        lambda: a @ b,
        lambda: a[b.long()],
        lambda: torch.cat([a, b]),
        lambda: a + torch.ones(3),
    ):
        with pytest.raises(RuntimeError, match="tensors on"):
            wrong()
    a.add_(b.to(a.device))
    assert a.tolist() == [2.0, 2.0, 2.0] and b.device == DEVICES[1]


def test_vocabularies_that_are_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, (name, tokens) in enumerate({"base": "abcdefgh ", "a": "abcdefgh xy", "b": "habcdefg z"}.items()):
        write_model(name, seed=seed, vocab=16, tokens=tokens, layers=4)
    recipe = parse_recipe(
        "merge_method: linear\nmodels: [{model: base}, {model: a}, {model: b}]\nparameters: {weight: 0.3}\n"
        "tokenizer_source: union\n"
    )
    with pretended_devices():
        one, two = over(DEVICES[:1], recipe), over(TWO, recipe)
        assert same(bits(one), bits(two))
        assert two.model.lm_head.weight.device == DEVICES[1]

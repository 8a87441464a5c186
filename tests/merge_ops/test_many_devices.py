"""Models over several devices: what lies where, and the bits of one device.

The devices are pretended (`pretend_devices.py`): they refuse tensors of one another as GPUs do, and compute as the CPU.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from families import LAYERS, family_config, write_models
from pretend_devices import DEVICES, pretended_devices, pretending_threads
from tiny_models import write_model
from transformers import AutoConfig, AutoModelForImageTextToText

from mergesmith.errors import UserError
from mergesmith.merge_ops import LiveModel, ModelBank, Recipe, WeightsDigest, materialize, parse_recipe, plan_merge
from mergesmith.merge_ops.architecture import skeleton
from mergesmith.merge_ops.placement import device_map, partition, places_of, spread, units
from mergesmith.merge_ops.quiet import quiet_transformers

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


def opened(*, resident: bool = True, **options: Any) -> ModelBank:
    return ModelBank(["base", "a", "b"], device=DEVICES[0], resident=resident, keep_deltas=True, **options)


def over(devices: tuple[torch.device, ...], recipe: Recipe, *, resident: bool = True) -> LiveModel:
    """A live model over these devices, with homes for its sources as a session sets them."""
    bank = opened(resident=resident)
    if len(devices) > 1:
        bank.homes = places_of(plan_merge(recipe, bank), bank, devices, (1,) * len(devices)).homes
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


# The map


def test_runs_are_as_even_as_can_be() -> None:
    assert partition([5, 1, 1, 1, 1, 1], (1, 1)) == (1, 6)
    assert partition([1, 1, 1, 1, 4], (1, 1)) == (4, 5)
    assert partition([2] * 9, (1, 1, 1)) == (3, 6, 9)
    assert partition([2] * 9, (1, 2)) == (3, 9)  # the second has twice the memory
    assert partition([7, 7], (3, 1)) == (1, 2)  # none is empty
    assert partition([7, 1], (80,)) == (2,)


def test_no_other_cut_is_more_even() -> None:
    draw = random.Random(0)
    for _ in range(100):
        sizes = [draw.randint(0, 9) for _ in range(draw.randint(3, 8))]
        memory = tuple(draw.randint(1, 4) for _ in range(draw.randint(1, 3)))

        def fullest(ends: tuple[int, ...], sizes: list[int] = sizes, memory: tuple[int, ...] = memory) -> float:
            runs = zip((0, *ends), ends, memory, strict=False)
            return max(sum(sizes[start:end]) / room for start, end, room in runs)

        every = [(*cuts, len(sizes)) for cuts in itertools.combinations(range(1, len(sizes)), len(memory) - 1)]
        assert fullest(partition(sizes, memory)) == min(map(fullest, every))


def meta(family: str, **overrides: Any) -> Any:
    return skeleton(family_config(family, **overrides))[0]


def test_layers_stay_whole_and_in_order() -> None:
    model = meta("llama", vocab_size=400)
    where = device_map(model, TWO, (1, 1))
    layer = sum(p.nbytes for p in model.model.layers[0].parameters())
    embedding = model.model.embed_tokens.weight.nbytes
    assert [unit.nbytes for unit in units(model)][1:] == [*[layer] * LAYERS, 4 * 32, embedding]
    assert {where[name] for name in ("model.embed_tokens", "model.rotary_emb", "model.layers.0")} == {DEVICES[0]}
    assert {where[name] for name in ("model.norm", "lm_head", "model.layers.3")} == {DEVICES[1]}
    order = [DEVICES.index(where[f"model.layers.{i}"]) for i in range(LAYERS)]
    assert order == sorted(order) == [0, 0, 1, 1]
    more = device_map(model, TWO, (1, 3))  # the first has a third of the other's memory
    assert more["model.layers.0"] == DEVICES[1]


def test_a_tied_head_is_with_its_embedding() -> None:
    where = device_map(meta("qwen2"), TWO, (1, 1))
    assert where["lm_head"] == where["model.embed_tokens"] == DEVICES[0]
    assert where["model.norm"] == DEVICES[1]


def test_what_a_model_sees_with_is_with_the_embedding() -> None:
    text = {"model_type": "llama", "vocab_size": 48, "hidden_size": 32, "intermediate_size": 64}
    text |= {"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2}
    eyes = {"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    eyes |= {"num_attention_heads": 4, "image_size": 16, "patch_size": 8}
    config = AutoConfig.for_model("llava", text_config=text, vision_config=eyes, image_token_id=47)
    with quiet_transformers():
        model = AutoModelForImageTextToText.from_config(config).eval().requires_grad_(False)
    where = device_map(model, TWO, (1, 1))
    first = ("model.vision_tower", "model.multi_modal_projector", "model.language_model.embed_tokens")
    assert {where[name] for name in first} == {DEVICES[0]}
    assert where["model.language_model.layers.3"] == where["lm_head"] == DEVICES[1]
    with torch.no_grad():
        expected = model(TOKENS).logits
        with pretended_devices():
            found = spread(model, where)(TOKENS.to(DEVICES[0])).logits
    assert torch.equal(found.to("cpu"), expected)


@pytest.mark.parametrize("family", ["gemma3_text", "deepseek_v3", "gpt_oss", "jamba"])
def test_every_tensor_has_a_home(family: str, models: Any) -> None:
    models(family)
    bank = opened()
    plan = plan_merge(parse_recipe(TIES), bank)
    found = places_of(plan, bank, TWO, (1, 1))
    assert set(found.homes) >= {task.name for task in plan.tasks}
    total = sum(found.nbytes.values())
    stored = bank["base"].nbytes
    assert stored <= total <= 1.1 * stored  # rotary tables are not stored
    assert max(found.nbytes.values()) < 0.75 * total
    for layer in range(LAYERS):
        homes = {home for name, home in found.homes.items() if f".{layer}." in name and "experts" not in name}
        assert len(homes) == 1, layer


def test_what_cannot_be_spread_is_said() -> None:
    model = meta("llama")
    with pytest.raises(UserError, match=r"7 parts that must stay whole, fewer than the 8 devices"):
        device_map(model, [torch.device("cuda", i) for i in range(8)], (1,) * 8)
    model._no_split_modules = None
    with pytest.raises(UserError, match=r"LlamaForCausalLM cannot be spread.*_no_split_modules"):
        device_map(model, TWO, (1, 1))


# The bits


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
    kept = live.bank._kept
    assert len(kept) == 3 * len(live.bank["base"].entries)
    for (_, name), tensor in kept.items():
        assert tensor.device == live.bank.homes[name] == places(live)[name]
    # In layers that a stack moves to the other device they are copied, not kept again.
    live.load(parse_recipe(STACK))
    assert live.bank._kept.keys() == kept.keys()
    assert all(tensor.device == live.bank.homes[name] for (_, name), tensor in kept.items())


@pytest.mark.usefixtures("pretended")
def test_sources_are_read_to_their_homes_before_a_model_is_built(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    models("llama")
    monkeypatch.setattr("mergesmith.merge_ops.bank.ThreadPoolExecutor", pretending_threads)
    bank = opened()
    bank.homes = places_of(plan_merge(parse_recipe(LINEAR), bank), bank, TWO, (1, 1)).homes
    bank.load(lambda _: None)
    assert {tensor.device for tensor in bank._kept.values()} == set(TWO)
    assert all(tensor.device == bank.homes[name] for (_, name), tensor in bank._kept.items())


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

    monkeypatch.setattr("mergesmith.merge_ops.live.merge_in_batches", counted)
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

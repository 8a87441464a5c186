"""Which part of a model lies on which of several devices."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from families import LAYERS, family_config, write_models
from pretend_devices import DEVICES, pretended_devices
from transformers import AutoConfig, AutoModelForImageTextToText

from mergesmith.errors import UserError
from mergesmith.merge_ops import ModelBank, Recipe, Setting, Source, plan_merge
from mergesmith.merge_ops.architectures.meta_model import skeleton
from mergesmith.merge_ops.architectures.quiet_transformers import quiet_transformers
from mergesmith.merge_ops.live.device_map import device_map, partition, places_of, spread, units

TOKENS = torch.tensor([[1, 7, 4, 20, 33, 9, 2], [1, 5, 30, 30, 8, 6, 41]])
TWO = DEVICES[:2]


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
def test_every_tensor_has_a_home(family: str, tmp_path: Path) -> None:
    write_models(tmp_path, family)
    base = str(tmp_path / "base")
    bank = ModelBank([base])
    plan = plan_merge(Recipe("linear", models=(Source(base),), parameters={"weight": Setting.constant(1.0)}), bank)
    found = places_of(plan, bank, TWO, (1, 1))
    assert set(found.homes) >= {task.name for task in plan.tasks}
    total = sum(found.nbytes.values())
    stored = bank[base].nbytes
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

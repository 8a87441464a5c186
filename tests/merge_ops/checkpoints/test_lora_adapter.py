"""LoRA adapters, made by PEFT and merged tensor by tensor, against PEFT's own merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import edit, merged_by_peft, rewrite, write_adapter
from safetensors.torch import load_file
from tiny_models import write_model

from mergesmith.errors import UserError
from mergesmith.merge_ops import Checkpoint, CheckpointWarning, ModelBank, parse_recipe, write_merge

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"target_modules": [*ATTENTION, "gate_proj", "up_proj", "down_proj"], "r": 4, "lora_alpha": 6}),
    "one module": ("llama", {"target_modules": ["v_proj"], "r": 1, "lora_alpha": 16}),
    "qwen2": ("qwen2", {"target_modules": ATTENTION, "r": 3, "lora_alpha": 8, "use_rslora": True}),
    "gpt2": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True, "r": 4}),
    "mixtral": ("mixtral", {"target_modules": ATTENTION, "r": 2, "lora_alpha": 3}),
    "patterns": (
        "llama",
        {
            "target_modules": [*ATTENTION, "up_proj"],
            "r": 4,
            "lora_alpha": 8,
            "rank_pattern": {"q_proj": 2, "layers.1.self_attn.v_proj": 6},
            "alpha_pattern": {"layers.[02].self_attn.o_proj": 3},
        },
    ),
    "some layers": ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [1, 3]}),
    "whole modules": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]}),
    "embeddings": ("llama", {"target_modules": ["embed_tokens", "q_proj", "lm_head"], "r": 4}),
    "untouched copies": (
        "llama",
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"], "save_embeddings": True},
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def pair(folder: Path) -> tuple[Path, Path]:
    """A Llama and a plain adapter for it, in the working directory."""
    base = write_model("base")
    return base, write_adapter(base, Path("lora"), target_modules=["q_proj", "v_proj"])


def refused(reference: str) -> str:
    with pytest.raises(UserError) as caught:
        Checkpoint(reference)
    return str(caught.value)


@pytest.mark.parametrize(("family", "config"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_to_peft(family: str, config: dict[str, Any], dtype: str, folder: Path) -> None:
    base = write_model("base", family, dtype=dtype)
    adapter = write_adapter(base, Path("lora"), **config)
    ours, wanted = Checkpoint("base+lora"), merged_by_peft(base, adapter, Path("merged"))
    assert sorted(wanted) == list(ours.entries)
    plain = Checkpoint("base")
    changed = []
    for name, tensor in wanted.items():
        found = ours.tensor(name)
        assert (found.shape, found.dtype) == (ours.entries[name].shape, ours.entries[name].dtype)
        assert found.is_contiguous()
        bound = 1e-6 if dtype == "float32" else 1e-7  # PEFT keeps its factors in float32
        torch.testing.assert_close(found, tensor, rtol=0, atol=bound * float(tensor.abs().max()))
        changed += [] if torch.equal(found, plain.tensor(name)) else [name]
    assert ours.adapter is not None
    assert tuple(sorted(changed)) == ours.adapter.changes
    assert ours.weights_digest != plain.weights_digest


def test_below_float32_the_sum_is_rounded_once(folder: Path) -> None:
    base = write_model("base", dtype="bfloat16")
    write_adapter(base, Path("lora"), target_modules=["q_proj"], r=4, lora_alpha=2)
    name = "model.layers.2.self_attn.q_proj"
    stored = load_file("lora/adapter_model.safetensors")
    a, b = (stored[f"base_model.model.{name}.lora_{side}.weight"].float() for side in "AB")
    wanted = (Checkpoint("base").tensor(f"{name}.weight").float() + 0.5 * (b @ a)).to(torch.bfloat16)
    assert torch.equal(Checkpoint("base+lora").tensor(f"{name}.weight"), wanted)


def test_names_of_whole_tensors(folder: Path) -> None:
    """`original_module` is the base's tensor and ignored; of two names PEFT loads the one without a wrapper."""
    base = write_model("base")
    write_adapter(base, Path("lora"), target_modules=["q_proj"], modules_to_save=["lm_head"], save_embeddings=True)
    head = "base_model.model.lm_head"
    saved = load_file("lora/adapter_model.safetensors")
    assert {f"{head}.{x}" for x in ("weight", "modules_to_save.weight", "original_module.weight")} <= set(saved)
    one, two, three = (torch.full((48, 32), float(i)) for i in (1, 2, 3))
    untouched = {f"{head}.original_module.weight": three}
    rest = {name: x for name, x in saved.items() if head not in name}

    def read(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        rewrite(Path("lora"), lambda _: {**rest, **tensors})
        return Checkpoint("base+lora").tensor(HEAD)

    both = {f"{head}.modules_to_save.weight": two, f"{head}.weight": one, **untouched}
    assert torch.equal(read(both), one)
    assert torch.equal(merged_by_peft(base, Path("lora"), Path("merged"))[HEAD], one)
    assert torch.equal(read({f"{head}.modules_to_save.default.weight": two, **untouched}), two)
    assert torch.equal(read(untouched), Checkpoint("base").tensor(HEAD))


def test_factors_named_after_the_default_adapter(pair: tuple[Path, Path]) -> None:
    """As they are called in a model's state_dict, from which some trainers write them."""
    digest = Checkpoint("base+lora").weights_digest
    rewrite(pair[1], lambda tensors: {name.replace(".weight", ".default.weight"): x for name, x in tensors.items()})
    assert Checkpoint("base+lora").weights_digest == digest


def test_gpt2_is_transposed_whatever_the_configuration_says(folder: Path) -> None:
    """PEFT goes by the kind of layer; for a square weight the shapes do not tell."""
    base = write_model("base", "gpt2")
    write_adapter(base, Path("lora"), target_modules=["c_proj"], fan_in_fan_out=True)
    digest = Checkpoint("base+lora").weights_digest
    edit(Path("lora"), fan_in_fan_out=False)
    assert Checkpoint("base+lora").weights_digest == digest


def test_an_adapter_alone_brings_its_base(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    digest = Checkpoint("base+lora").weights_digest
    for name in (str(Path("base").resolve()), "base", "../base"):
        edit(pair[1], base_model_name_or_path=name)
        checkpoint = Checkpoint("lora")
        assert checkpoint.weights_digest == digest
        assert [path.resolve() for path in checkpoint.folders] == [path.resolve() for path in pair]
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert Checkpoint("../lora").weights_digest == digest
    edit(Path("../lora"), base_model_name_or_path="gone")
    assert "write BASE+../lora with another base. model 'gone': no such folder (looked in" in refused("../lora")
    edit(Path("../lora"), base_model_name_or_path=None)
    assert "names no base_model_name_or_path; write BASE+../lora" in refused("../lora")


def test_a_merge_with_adapters(pair: tuple[Path, Path]) -> None:
    write_adapter(pair[0], Path("other"), target_modules=["up_proj"], seed=8)
    recipe = parse_recipe(
        "merge_method: task_arithmetic\nbase_model: base\nparameters: {weight: 1}\n"
        "models: [{model: base+lora}, {model: {model: base, lora: {path: other}}}]\n"
    )
    assert [source.model for source in recipe.models] == ["base+lora", "base+other"]
    written = write_merge(recipe, ModelBank(recipe.references()), Path("out"))
    out, (first, second) = Checkpoint("out"), (Checkpoint("base+lora"), Checkpoint("base+other"))
    assert out.weights_digest == written.digest
    for checkpoint in (first, second):
        assert checkpoint.adapter is not None
        for name in checkpoint.adapter.changes:
            torch.testing.assert_close(out.tensor(name), checkpoint.tensor(name), rtol=1e-6, atol=1e-7)
    assert sorted(path.name for path in Path().iterdir()) == ["base", "lora", "other", "out"]
    with pytest.raises(UserError, match=r"contains the source 'base\+lora'; it is not overwritten"):
        Path("lora/config.json").write_text("{}")
        write_merge(recipe, ModelBank(recipe.references()), Path("lora"), overwrite=True)


def test_bits_do_not_depend_on_threads(folder: Path) -> None:
    base = write_model("base", hidden=256, layers=1)
    write_adapter(base, Path("lora"), target_modules=["down_proj"], r=64)
    digests = set()
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            digests.add(Checkpoint("base+lora").weights_digest)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(digests) == 1


def test_adapters_as_pickles(pair: tuple[Path, Path]) -> None:
    digest = Checkpoint("base+lora").weights_digest
    torch.save(load_file("lora/adapter_model.safetensors"), "lora/adapter_model.bin")
    Path("lora/adapter_model.safetensors").unlink()
    assert Checkpoint("base+lora").weights_digest == digest
    Path("lora/adapter_model.bin").unlink()
    assert "no adapter_model.safetensors and no adapter_model.bin" in refused("base+lora")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "dora": ({"use_dora": True}, "use_dora: DoRA rescales every row"),
    "another kind": ({"peft_type": "IA3"}, "peft_type: must be LORA, but is IA3; merge it with PEFT"),
    "biases": ({"bias": "all"}, "bias: must be none, but is all"),
    "pissa": ({"init_lora_weights": "pissa"}, "init_lora_weights: is pissa, which changes the base's weights too"),
    "rows": ({"trainable_token_indices": [1]}, "trainable_token_indices: single rows"),
    "parameters": (
        {"target_parameters": ["mlp.experts.up"]},
        "target_parameters: parameters that are not the weight of a module",
    ),
    "unknown": ({"use_wonder": 3}, "use_wonder: this setting is unknown"),
    "no rank": ({"r": 0}, "r: must be a number above 0, but is 0"),
    "another rank": ({"r": 5}, "A must be [r, in] and B [out, r], so [5, 32] and [32, 5]"),
    "a pattern": ({"rank_pattern": {"(": 3}}, "rank_pattern.(: is not a regular expression"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(changes: dict[str, Any], message: str, pair: tuple[Path, Path]) -> None:
    edit(pair[1], **changes)
    assert message in refused("base+lora")


def test_tensors_that_do_not_belong(pair: tuple[Path, Path]) -> None:
    write_model("small", layers=2)
    assert "model.layers.2.self_attn.q_proj: is not a module of the base; the adapter belongs to another" in refused(
        "small+lora"
    )
    first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    rewrite(pair[1], lambda t: {n: x for n, x in t.items() if n != first})
    assert "model.layers.0.self_attn.q_proj: must have both lora_A and lora_B" in refused("base+lora")
    rewrite(pair[1], lambda t: {**t, "base_model.model.x.lora_magnitude_vector": torch.ones(3)})
    assert "lora_magnitude_vector: is not supported: DoRA rescales every row" in refused("base+lora")
    rewrite(pair[1], lambda t: {**t, "base_model.model.x.lora_B.bias": torch.ones(3)})
    assert "lora_B.bias: is not part of a plain LoRA adapter (lora_A, lora_B); merge it with PEFT" in refused(
        "base+lora"
    )
    rewrite(pair[1], lambda _: {"base_model.model.lm_head.weight": torch.ones(50, 32)})
    assert "if the vocabulary was resized in training" in refused("base+lora")
    rewrite(pair[1], lambda _: {"base_model.model.value_head.weight": torch.ones(3)})
    assert "value_head.weight: is not a tensor of the base" in refused("base+lora")
    rewrite(pair[1], lambda _: {})
    assert "contains no tensors" in refused("base+lora")


def test_damaged_and_missing_files(pair: tuple[Path, Path]) -> None:
    weights = Path("lora/adapter_model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    assert "adapter_model.safetensors is damaged or truncated" in refused("base+lora")
    Path("lora/adapter_config.json").write_text("{")
    assert "adapter_config.json cannot be read" in refused("base+lora")
    Path("lora/adapter_config.json").unlink()
    assert "no adapter_config.json in lora; the folder of an adapter needs one" in refused("base+lora")


def test_one_adapter_over_one_checkpoint(pair: tuple[Path, Path]) -> None:
    write_adapter(pair[0], Path("second"), target_modules=["q_proj"], base_name="lora")
    assert "lora is an adapter itself" in refused("lora+second")
    assert "its base lora is an adapter too" in refused("second")


def test_embeddings_that_are_the_head_too(folder: Path) -> None:
    base = write_model("base", "qwen2")
    write_adapter(base, Path("lora"), target_modules=["embed_tokens"], r=4)
    with pytest.warns(CheckpointWarning, match=f"its adapter changes {EMBEDDINGS}, which the base uses twice"):
        ours = Checkpoint("base+lora")
    wanted = merged_by_peft(base, Path("lora"), Path("merged"))
    torch.testing.assert_close(ours.tensor(EMBEDDINGS), wanted[EMBEDDINGS], rtol=1e-6, atol=1e-7)
    stored = load_file(base / "model.safetensors")[EMBEDDINGS]

    def saved(**tensors: torch.Tensor) -> None:
        rewrite(Path("lora"), lambda _: {f"base_model.model.{n}": x.clone() for n, x in tensors.items()})

    saved(**{EMBEDDINGS: stored + 1})
    assert "was trained separately from the tensor that the base ties it to" in refused("base+lora")
    saved(**{EMBEDDINGS: stored + 1, HEAD: stored + 2})
    assert "was trained separately from the tensor that the base ties it to" in refused("base+lora")
    saved(**{EMBEDDINGS: stored + 1, HEAD: stored + 1})
    with pytest.warns(CheckpointWarning, match="uses twice"):
        assert torch.equal(Checkpoint("base+lora").tensor(EMBEDDINGS), stored + 1)


def test_the_model_card_names_model_and_adapter(folder: Path) -> None:
    base = write_model("owner/base", layers=1)
    write_adapter(base, Path("owner/lora"), target_modules=["q_proj"])
    recipe = parse_recipe("merge_method: passthrough\nmodels: [{model: owner/base+owner/lora}]\n")
    write_merge(recipe, ModelBank(recipe.references()), Path("out"))
    card = Path("out/README.md").read_text()
    assert "base_model:\n- owner/base\n- owner/lora\n" in card
    assert "* `owner/base+owner/lora`" in card

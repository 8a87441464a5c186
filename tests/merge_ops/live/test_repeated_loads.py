"""A search loads many candidates into one live model: what did not change is not done again, and nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import write_family, write_model

from mergesmith.merge_ops import LiveModel, MergeError, ModelBank, Recipe, materialize, parse_recipe
from mergesmith.merge_ops.executors.job import TensorJob

LAYERS = 4


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A family in the working directory; the names of the tensors that executors are given."""
    write_family(tmp_path, "llama", models=2)
    monkeypatch.chdir(tmp_path)
    names: list[str] = []
    materializing = importlib.import_module("mergesmith.merge_ops.merging.merge_tensors")
    run: Callable[[list[TensorJob]], None] = materializing.run

    def watched(works: list[TensorJob]) -> None:
        names.extend(work.name for work in works)
        run(works)

    monkeypatch.setattr(materializing, "run", watched)
    return names


def recipe(text: str) -> Recipe:
    return parse_recipe(f"dtype: float32\n{text}")


def based(text: str) -> Recipe:
    return recipe(f"base_model: base\n{text}")


def ties(weight: str, seed: int = 0) -> Recipe:
    models = f"models: [{{model: a, parameters: {{weight: {weight}, density: 0.6}}}}, {{model: b}}]"
    return recipe(
        f"merge_method: ties\nbase_model: base\n{models}\nparameters: {{weight: 0.4}}\nmergesmith: {{seed: {seed}}}\n"
    )


def assert_holds(live: LiveModel, wanted: Recipe) -> None:
    """The live model has the bits of a merge of its own."""
    state = live.model.state_dict()
    for name, tensor in materialize(wanted, ModelBank(wanted.references())):
        assert torch.equal(state[name], tensor), name


def test_what_did_not_change_is_not_written_again(written: list[str]) -> None:
    live = LiveModel(ModelBank(["base", "a", "b"]))
    live.load(ties("0.5"))
    everything = sorted(written)
    written.clear()
    live.load(ties("0.5"))
    live.load(ties("0.5", seed=9))  # which draws nothing
    assert written == []
    # A filter: only these tensors have another weight.
    changed = ties("[{filter: mlp, value: 0.9}, {value: 0.5}]")
    live.load(changed)
    assert sorted(written) == [name for name in everything if "mlp" in name]
    assert_holds(live, changed)


def test_seeds_count_where_masks_are_random(written: list[str]) -> None:
    live = LiveModel(ModelBank(["base", "a", "b"]))
    for seed in (1, 2):
        text = "merge_method: dare_linear\nmodels: [{model: a}]\nparameters: {weight: 1, density: 0.5}\n"
        drawn = based(f"{text}mergesmith: {{seed: {seed}}}\n")
        written.clear()
        live.load(drawn)
        assert written
        assert_holds(live, drawn)


def test_another_method_or_dtype_writes_all(written: list[str]) -> None:
    live = LiveModel(ModelBank(["base", "a", "b"]))
    live.load(ties("0.5"))
    everything = sorted(written)
    linear = recipe("merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n")
    for wanted in (linear, ties("0.5")):
        written.clear()
        live.load(wanted)
        assert sorted(written) == everything
        assert_holds(live, wanted)


def test_weights_that_others_changed_are_written_again(written: list[str]) -> None:
    live = LiveModel(ModelBank(["base", "a", "b"]))
    live.load(ties("0.5"))
    with torch.no_grad():
        live.model.get_parameter("model.norm.weight").fill_(7.0)
    written.clear()
    live.load(ties("0.5"))
    assert written == ["model.norm.weight"]
    assert_holds(live, ties("0.5"))


def test_after_a_failure_everything_is_written(written: list[str]) -> None:
    live = LiveModel(ModelBank(["base", "a", "b"]))
    live.load(ties("0.5"))
    everything = sorted(written)
    halves = "[{filter: mlp, value: -1}, {value: 1}]"
    models = f"models: [{{model: a, parameters: {{weight: {halves}}}}}, {{model: b, parameters: {{weight: 1}}}}]"
    with pytest.raises(MergeError, match="must not sum to 0"):
        live.load(recipe(f"merge_method: linear\n{models}\n"))
    written.clear()
    live.load(ties("0.5"))
    assert sorted(written) == everything
    assert_holds(live, ties("0.5"))


def test_numbers_of_an_earlier_recipe_are_not_taken(written: list[str]) -> None:
    """Plans share their structure, not their parameters."""
    bank = ModelBank(["base", "a", "b"])
    for weight in ("0.5", "[0.1, 0.9]", "[{filter: attn, value: 0.2}, {value: 0.7}]"):
        shared = dict(materialize(ties(weight), bank))
        alone = dict(materialize(ties(weight), ModelBank(["base", "a", "b"])))
        assert all(torch.equal(shared[name], alone[name]) for name in alone)


def test_sources_are_read_once_in_parallel(written: list[str]) -> None:
    bank = ModelBank(["base", "a", "b"])
    read: list[int] = []
    bank.load(read.append)
    assert sum(read) == sum(bank[reference].nbytes for reference in bank.references)
    name = next(iter(bank["a"].entries))
    assert bank.tensor(("a", name)) is bank.tensor(("a", name))


@pytest.mark.parametrize("source", ["union", "base"])
def test_another_base_model_is_another_vocabulary(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, (name, tokens) in enumerate({"base": "abcdefgh", "a": "hgfedcbaxy"}.items()):
        vocab = 4 + len(tokens)
        write_model(name, seed=seed, tokens=tokens, layers=1, hidden=16, intermediate_size=24, vocab=vocab)
    models = "models: [{model: base}, {model: a}]\nparameters: {weight: 1}"
    live = LiveModel(ModelBank(["base", "a"]))
    for base in ("base", "a"):
        wanted = recipe(f"merge_method: linear\nbase_model: {base}\n{models}\ntokenizer_source: {source}\n")
        live.load(wanted)
        assert_holds(live, wanted)


def test_a_failure_in_the_middle_leaves_nothing_unwritten(written: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveModel(ModelBank(["base", "a", "b"]))
    live.load(ties("0.5"))
    materializing = importlib.import_module("mergesmith.merge_ops.merging.merge_tensors")
    monkeypatch.setattr(materializing, "BATCH_ELEMENTS", 1)  # tensors before the failing one are written
    halves = "[{filter: mlp, value: -1}, {value: 1}]"
    models = f"models: [{{model: a, parameters: {{weight: {halves}}}}}, {{model: b, parameters: {{weight: 1}}}}]"
    written.clear()
    with pytest.raises(MergeError):
        live.load(recipe(f"merge_method: linear\n{models}\n"))
    assert written
    live.load(ties("0.5"))
    assert_holds(live, ties("0.5"))

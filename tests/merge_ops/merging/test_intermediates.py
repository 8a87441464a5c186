"""Recipes of several documents: named merges that others use as models, in memory, with mergekit-multi's meaning."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tiny_models import write_family

from mergesmith.errors import UserError
from mergesmith.merge_ops import (
    LiveModel,
    MergeError,
    ModelBank,
    RecipeWarning,
    Residency,
    WeightsDigest,
    materialize,
    parse_recipe,
    plan_merge,
    recipe_from_document,
    write_merge,
)

LEFT = """
name: left
merge_method: slerp
base_model: base
models: [{model: base}, {model: a}]
parameters: {t: 0.3}
dtype: float32
"""
RIGHT = """
name: right
merge_method: slerp
base_model: b
models: [{model: b}, {model: c}]
parameters: {t: [0.2, 0.9]}
dtype: bfloat16
"""
TOP = """
merge_method: slerp
base_model: left
models: [{model: left}, {model: right}]
parameters: {t: 0.6}
dtype: float32
"""
TREE = f"{LEFT}---{RIGHT}---{TOP}"
STACKED = """
name: deep
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 3]}]
  - sources: [{model: b, layer_range: [1, 4]}]
---
merge_method: task_arithmetic
base_model: deep
slices:
  - sources:
      - {model: deep, layer_range: [0, 6]}
      - {model: half, layer_range: [0, 6], parameters: {weight: 0.5}}
---
name: half
merge_method: linear
models: [{model: deep, parameters: {weight: 0.7}}, {model: far, parameters: {weight: 0.3}}]
---
name: far
merge_method: passthrough
slices:
  - sources: [{model: c, layer_range: [0, 4]}]
  - sources: [{model: base, layer_range: [2, 4]}]
"""


@pytest.fixture(autouse=True)
def folder(in_llama: Path) -> Path:
    return in_llama


def merged(text: str, *, resident: bool = False) -> dict[str, torch.Tensor]:
    recipe = parse_recipe(text)
    return dict(materialize(recipe, ModelBank(recipe.references(), residency=Residency(resident=resident))))


def on_disk(folder: Path, *texts: str) -> dict[str, torch.Tensor]:
    """The last recipe's tensors, when each other one is written to a folder of its name first."""
    for text in texts[:-1]:
        name = text.split("name: ")[1].split()[0]
        recipe = parse_recipe(text)
        write_merge(recipe, ModelBank(recipe.references(), roots=[folder]), folder / name)
    recipe = parse_recipe(texts[-1])
    return dict(materialize(recipe, ModelBank(recipe.references(), roots=[folder])))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("resident", [False, True])
def test_equals_merges_by_way_of_disk(resident: bool, tmp_path: Path) -> None:
    assert same(merged(TREE, resident=resident), on_disk(tmp_path, LEFT, RIGHT, TOP))


def test_intermediates_of_another_depth(tmp_path: Path) -> None:
    deep, top, half, far = STACKED.split("---")
    assert same(merged(STACKED), on_disk(tmp_path, deep, far, half, top))


@pytest.mark.parametrize("text", [TREE, STACKED], ids=["tree", "stacked"])
def test_written_and_live(text: str, tmp_path: Path) -> None:
    recipe = parse_recipe(text)
    bank = ModelBank(recipe.references())
    live, digest = LiveModel(bank), WeightsDigest()
    live.load(recipe, digest=digest)
    written = write_merge(recipe, bank, tmp_path / "out", max_shard_size="50KB")
    assert written.digest == digest.hex
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    again = parse_recipe((tmp_path / "out" / "mergekit_config.yml").read_text())
    assert again == recipe.renamed({name: str(Path(name).resolve()) for name in recipe.references()})
    assert recipe_from_document(recipe.to_document()) == recipe


def test_the_order_of_the_documents_does_not_matter() -> None:
    assert parse_recipe(f"{TOP}---{LEFT}---{RIGHT}") == parse_recipe(TREE)
    assert [name for name, _ in parse_recipe(STACKED).intermediates] == ["deep", "far", "half"]


def test_what_a_recipe_with_intermediates_is() -> None:
    recipe = parse_recipe(TREE)
    assert recipe.references() == ("base", "a", "b", "c")
    assert recipe.digest != parse_recipe(TREE.replace("t: 0.3", "t: 0.4")).digest
    assert recipe.digest != parse_recipe(TOP).digest
    moved = recipe.renamed({"b": "/zoo/b"})
    assert moved.references() == ("base", "a", "/zoo/b", "c")
    assert dict(moved.intermediates)["right"].base_model == "/zoo/b"
    assert {part.seed for _, part in recipe.seeded(7).intermediates} == {7}
    assert parse_recipe(recipe.to_yaml()).digest == recipe.digest


def test_one_bank_serves_recipes_that_mean_different_things_by_a_name() -> None:
    texts = (TREE, TREE.replace("t: 0.3", "t: 0.8"))
    bank = ModelBank(("base", "a", "b", "c"))
    plans = [plan_merge(parse_recipe(text), bank) for text in texts]
    for plan, text in zip(plans, texts, strict=True):
        assert same(dict(materialize(plan, bank)), merged(text))


def test_a_name_goes_before_a_folder_of_that_name(tmp_path: Path) -> None:
    text = "name: c\nmerge_method: passthrough\nmodels: [{model: a}]\n---\nmerge_method: passthrough\n"
    found = merged(text + "models: [{model: c}]")
    assert same(found, merged("merge_method: passthrough\nmodels: [{model: a}]"))


def test_the_tokenizer_is_the_donors(tmp_path: Path) -> None:
    for model in ("base", "a", "b", "c"):
        shutil.copytree(model, tmp_path / model)
    (tmp_path / "base" / "chat_template.jinja").write_text("{{ 'mine' }}")
    recipe = parse_recipe(TREE)
    write_merge(recipe, ModelBank(recipe.references(), roots=[tmp_path]), tmp_path / "out")
    first = parse_recipe(LEFT + "chat_template: auto")
    bank = ModelBank([str(tmp_path / "base"), *recipe.references()])
    write_merge(recipe.renamed({"base": str(tmp_path / "base")}), bank, tmp_path / "other")
    assert first.references() == ("base", "a")
    assert (tmp_path / "other" / "chat_template.jinja").read_text() == "{{ 'mine' }}"


def refused(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_recipe(text)
    return str(caught.value)


def test_faults_of_the_documents() -> None:
    assert "exactly one document, the output, must have no name, but 0 have none" in refused(f"{LEFT}---{RIGHT}")
    assert "but 2 have none" in refused(f"{LEFT}---{TOP}---{TOP}")
    assert "document 2.name: 'left' is the name of an earlier document too" in refused(f"{LEFT}---{LEFT}---{TOP}")
    assert "document 1.name: must be text, but is 3" in refused(LEFT.replace("left", "3") + "---" + TOP)
    assert "but 2 have none" in refused(f"{LEFT}---\n- 1\n---{TOP}")


def test_faults_inside_documents_are_told_together() -> None:
    message = refused(f"{LEFT.replace('slerp', 'slurp')}---{RIGHT.replace('t:', 'u:')}---{TOP}")
    assert "recipe: document 'left': merge_method: unknown merge method 'slurp'" in message
    assert "recipe: document 'right': " in message


def test_circles() -> None:
    circle = LEFT.replace("model: a", "model: right") + "---" + RIGHT.replace("model: c", "model: left")
    assert "the documents depend on each other in a circle: left -> right -> left" in refused(f"{circle}---{TOP}")
    assert "left -> left" in refused(f"{LEFT.replace('model: a', 'model: left')}---{RIGHT}---{TOP}")


def test_names_that_nothing_uses() -> None:
    with pytest.warns(RecipeWarning, match="'right' is not used by any other document and is ignored"):
        recipe = parse_recipe(f"{LEFT}---{RIGHT}---{TOP.replace('right', 'b')}")
    assert [name for name, _ in recipe.intermediates] == ["left"]


def test_a_name_that_no_document_has() -> None:
    recipe = parse_recipe(f"{LEFT}---{TOP}")
    with pytest.raises(UserError, match="model 'right': no such folder"):
        ModelBank(recipe.references())


def test_an_intermediate_whose_sources_do_not_fit(tmp_path: Path) -> None:
    write_family(tmp_path, layers=3, models=0)
    recipe = parse_recipe(TREE.replace("model: c", f"model: {tmp_path / 'base'}"))
    with pytest.raises(UserError, match=r"the models have 4 .'b'., 3"):
        plan_merge(recipe, ModelBank(recipe.references()))


def test_an_intermediate_that_is_no_tensor() -> None:
    text = "name: none\nmerge_method: linear\nmodels: [{model: a, parameters: {weight: 1}},"
    text += " {model: b, parameters: {weight: -1}}]\n---\nmerge_method: passthrough\nmodels: [{model: none}]"
    with pytest.raises(MergeError, match=r"linear: tensor 'lm_head\.weight'"):
        merged(text)


def test_a_tensor_is_merged_once_for_its_statistics_and_its_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    from mergesmith.merge_ops.merging import intermediates as intermediate

    made: list[str] = []
    inner = intermediate.merge_task  # pyright: ignore[reportPrivateImportUsage]

    def counted(plan: object, task: object, bank: object) -> torch.Tensor:
        made.append(task.name)  # pyright: ignore[reportAttributeAccessIssue]
        return inner(plan, task, bank)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(intermediate, "merge_task", counted)
    found = merged(TREE)
    assert sorted(made) == sorted(2 * list(found))

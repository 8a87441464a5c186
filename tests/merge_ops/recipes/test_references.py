"""How models are named: in text, as mappings, and which folders that means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_models import write_model

from mergesmith.errors import UserError
from mergesmith.merge_ops import Checkpoint, ModelPath, ModelReference, absolute_reference, parse_recipe
from mergesmith.merge_ops.checkpoints.find_model import locate

FORMS = {
    "./a": (ModelPath("./a"), None),
    "owner/name": (ModelPath("owner/name"), None),
    "owner/name@v1": (ModelPath("owner/name", "v1"), None),
    "a+b": (ModelPath("a"), ModelPath("b")),
    "o/n@v1+/lora/b": (ModelPath("o/n", "v1"), ModelPath("/lora/b")),
    "o/n+p/q@main": (ModelPath("o/n"), ModelPath("p/q", "main")),
    "o/n@v1+p/q@v2": (ModelPath("o/n", "v1"), ModelPath("p/q", "v2")),
}


@pytest.mark.parametrize("text", FORMS)
def test_text_is_read_and_written_back(text: str) -> None:
    reference = ModelReference.parse(text)
    assert (reference.model, reference.lora) == FORMS[text]
    assert str(reference) == text


@pytest.mark.parametrize("text", ["", "a+b+c", "a@b@c", "a+", "+b", "@v", "a@", "a+@v", "a@1+b@2@3"])
def test_text_of_another_form(text: str) -> None:
    with pytest.raises(UserError, match=r"with at most one \+ and one @ on each side") as caught:
        ModelReference.parse(text)
    assert f"model '{text}'" in str(caught.value)


MAPPINGS: list[tuple[dict[str, Any], str]] = [
    ({"model": "a"}, "a"),
    ({"model": {"path": "o/n", "revision": "v1"}}, "o/n@v1"),
    ({"model": {"path": "a"}, "lora": {"path": "p/q", "revision": "v2"}}, "a+p/q@v2"),
    ({"model": "o/n@v1", "lora": "b", "override_architecture": None}, "o/n@v1+b"),
]


@pytest.mark.parametrize(("mapping", "text"), MAPPINGS)
def test_mappings_anywhere_in_a_recipe(mapping: dict[str, Any], text: str) -> None:
    recipe = parse_recipe(
        f"merge_method: slerp\nparameters: {{t: 0.5}}\nbase_model: {mapping}\ntokenizer_source: {mapping}\n"
        f"slices: [{{base_model: {mapping}, sources: [{{model: {mapping}, layer_range: [0, 1]}}, "
        "{model: other, layer_range: [0, 1]}]}]".replace("None", "null")
        if "override_architecture" not in mapping
        else f"merge_method: passthrough\nmodels: [{{model: {mapping}}}]".replace("None", "null")
    )
    assert text in recipe.references()
    assert set(recipe.references()) <= {text, "other"}
    assert parse_recipe(recipe.to_yaml()) == recipe
    assert f"model: {text}\n" in recipe.to_yaml()


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"lora": "a"}, "model is missing"),
        ({"model": 3}, "model must be text or {path, revision}, but is a int"),
        ({"model": {"path": ""}}, "model.path must name a folder or hub id"),
        ({"model": {"pth": "a"}}, "model: unknown key 'pth'. Did you mean 'path'?"),
        ({"model": "a", "lore": "b"}, "unknown key 'lore'. Did you mean 'lora'?"),
    ],
)
def test_mappings_that_name_nothing(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        ModelReference.from_mapping(mapping)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["a+b", "a@b", "a+b+c", "c++@20"])
def test_folders_whose_names_hold_the_signs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(name, layers=1)
    assert Checkpoint(name).folder == Path(name)
    assert absolute_reference(name) == str(Path(name).resolve())
    (tmp_path / "x+y").mkdir()
    assert locate(f"{name}+x+y") == ModelReference(ModelPath(name), ModelPath("x+y"))


def test_only_the_hub_has_revisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_model("m", layers=1)
    with pytest.raises(UserError, match="m is a folder, and only models on the hub have revisions; remove @main"):
        Checkpoint("m@main")
    with pytest.raises(UserError, match="no such folder as 'lora'"):
        Checkpoint("m+lora")


def test_absolute_references(tmp_path: Path) -> None:
    for name in ("zoo/a", "zoo/lora"):
        (tmp_path / name).mkdir(parents=True)
    zoo = tmp_path / "zoo"
    assert absolute_reference("a+./lora", [zoo]) == f"{zoo / 'a'}+{zoo / 'lora'}"
    assert absolute_reference("owner/name@v+lora", [zoo]) == f"owner/name@v+{zoo / 'lora'}"
    assert absolute_reference("owner/name@v", [zoo]) == "owner/name@v"

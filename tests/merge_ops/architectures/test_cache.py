"""Architectures that are kept on disk are those that transformers gives, whatever is there."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from tiny_models import FAMILIES, write_model

from mergesmith.errors import UserError
from mergesmith.merge_ops.architectures import meta_model as skeleton
from mergesmith.merge_ops.architectures.cache import architecture_of


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MERGESMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "architectures"


def never(*_: object, **__: object) -> None:
    raise AssertionError("it is known")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_kept_is_what_was_found(
    family: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "model", family, layers=2)
    worked_out = skeleton.derive_architecture(folder, "model")
    first = architecture_of(folder, "model")
    monkeypatch.setattr(skeleton, "derive_architecture", never)
    known = architecture_of(folder, "model")
    for field in fields(known):
        if field.name != "names":
            assert getattr(known, field.name) == getattr(first, field.name) == getattr(worked_out, field.name), field
    others = ["lm_head.weight", "nothing", "model.layers.0.self_attn.rotary_emb.inv_freq", *worked_out.shapes]
    others += list(skeleton.skeleton(skeleton.load_config(folder, "model"))[0].state_dict())
    for name in others:
        assert known.names.canonical(name) == worked_out.names.canonical(name), name


def test_what_cannot_be_read_is_worked_out_again(tmp_path: Path, cache: Path) -> None:
    folder = write_model(tmp_path / "model", layers=2)
    wanted = architecture_of(folder, "model").shapes
    (file,) = cache.iterdir()
    kept = file.read_text()
    for text in ("", "[]", "{}", kept[:-9], json.dumps({**json.loads(kept), "more": 1})):
        file.write_text(text)
        assert architecture_of(folder, "model").shapes == wanted
        assert json.loads(file.read_text()) == json.loads(kept)


def test_another_configuration_is_another_architecture(tmp_path: Path, cache: Path) -> None:
    folder = write_model(tmp_path / "model", layers=2)
    assert architecture_of(folder, "model").num_layers == 2
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    assert architecture_of(folder, "model").num_layers == 3
    path.write_text("{}")
    with pytest.raises(UserError, match=r"config\.json cannot be used"):
        architecture_of(folder, "model")
    assert len(list(cache.iterdir())) == 2  # faults are not kept


def test_nowhere_to_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MERGESMITH_CACHE", str(tmp_path / "file"))
    assert architecture_of(write_model(tmp_path / "model", layers=2), "model").num_layers == 2

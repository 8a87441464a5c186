"""The files of a model on the hub that are downloaded: weights in one format, and everything that the output needs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.utils import filter_repo_objects
from tiny_models import write_model

from mergesmith.merge_ops.checkpoints.find_model import find_folders

NEEDED = (
    *("chat_template.jinja", "additional_chat_templates/tool_use.jinja", "tokenizer.model.v3", "tekken.json"),
    *("qwen.tiktoken", "source.spm", "vocab.bpe", "merges.txt", "modeling_my.py", "custom_generate/generate.py"),
    *("preprocessor_config.json", "generation_config.json", "config.json", "model.safetensors"),
)
OTHERS = ("original/model.safetensors", "onnx/model.onnx", "consolidated.safetensors", "picture.png", "model.gguf")


def test_what_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository, snapshot = write_model(tmp_path / "repository", layers=2), tmp_path / "snapshot"
    for name in (*NEEDED, *OTHERS):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).touch()

    def download(name: str, *, allow_patterns: Any = None, ignore_patterns: Any = None, **_: Any) -> str:
        assert name == "owner/name"
        files = [str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file()]
        for file in filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(repository / file, snapshot / file)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert find_folders("owner/name").model == snapshot
    for name in NEEDED:
        assert (snapshot / name).is_file(), name
    for name in OTHERS:
        assert not (snapshot / name).exists(), name

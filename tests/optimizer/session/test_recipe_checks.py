"""Models and recipes that a run cannot score are rejected before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from command_line import Command
from tiny_models import model_config
from tiny_run import MODELS, write_search
from transformers import LlamaForSequenceClassification


def test_classifiers_are_rejected_by_their_class(tmp_path: Path, command: Command) -> None:
    config: Any = model_config("llama", layers=2)
    for name in ("base", *MODELS):
        LlamaForSequenceClassification(config).save_pretrained(tmp_path / name)
    outcome = command("plan", write_search(tmp_path))
    assert outcome.code == 2
    assert "only language models can be scored: 4 faults" in outcome.err
    assert "model './base': its config.json names the class LlamaForSequenceClassification" in outcome.err

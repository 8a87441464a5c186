"""Models and recipes that a run cannot score are rejected before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from tiny_models import model_config
from tiny_run import MODELS, write_run, write_search
from transformers import LlamaForSequenceClassification


def test_classifiers_are_rejected_by_their_class(tmp_path: Path, command: Command) -> None:
    config: Any = model_config("llama", layers=2)
    for name in ("base", *MODELS):
        LlamaForSequenceClassification(config).save_pretrained(tmp_path / name)
    outcome = command("plan", write_search(tmp_path))
    assert outcome.code == 2
    assert "search.yaml: 4 faults" in outcome.err
    assert "only language models can be scored: model './base'" in outcome.err
    assert "model './base': its config.json names the class LlamaForSequenceClassification" in outcome.err


@pytest.mark.filterwarnings("always::mergesmith.merge_ops.RecipeWarning")
def test_plan_names_filters_of_a_baseline_that_match_no_tensor(tmp_path: Path, command: Command) -> None:
    write_run(
        tmp_path, baselines=["mine.yaml"], tasks=("mc",), space={"methods": ["linear"]}, search={"sampler": "random"}
    )
    (tmp_path / "mine.yaml").write_text(
        "merge_method: task_arithmetic\nbase_model: ./base\ndtype: float32\nmodels:\n"
        "  - {model: ./a, parameters: {weight: [{filter: layers.0-5, value: 0.9}, {value: 0.5}]}}\n"
    )
    outcome = command("plan", tmp_path / "search.yaml")
    assert outcome.code == 0, outcome
    assert "filter 'layers.0-5' is part of no tensor name, so it has no effect" in outcome.out + outcome.err

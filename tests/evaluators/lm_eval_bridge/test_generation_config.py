"""generation_config.json acts on scores as it does when lm-eval scores the written folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval import evaluator
from lm_eval.models import huggingface
from lm_eval.tasks import TaskManager
from tiny_tasks import all_parts, documents, graded, harness_items, load, make_model, make_tokenizer, write_task
from transformers import AutoModelForCausalLM

from mergesmith.evaluators import score_checkpoint

SETTINGS: dict[str, dict[str, Any]] = {
    "repetition penalty": {"repetition_penalty": 1.3},
    "no repeated pairs": {"no_repeat_ngram_size": 2},
    "suppressed tokens": {"suppress_tokens": [4, 5, 6, 7, 8, 9]},
    "length": {"max_new_tokens": 3},
    "another end": {"eos_token_id": [2, *range(4, 20)]},
}


def lm_eval_on_folder(folder: Path, tasks: Path) -> dict[str, Any]:
    """lm-eval by itself: its model, loaded from the folder, one row per batch."""
    hflm: Any = huggingface.HFLM
    simple_evaluate: Any = evaluator.simple_evaluate
    results = simple_evaluate(
        model=hflm(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1),
        tasks=["written"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    return harness_items(results, "written", "graded", "letters")


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_scores_are_those_of_the_written_folder(root: Path, settings: dict[str, Any]) -> None:
    write_task(root / "tasks", "written", "generation", docs=documents(60, seed=2), **graded())
    folder = root / "model"
    make_model().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    plain = lm_eval_on_folder(folder, root / "tasks")
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2, **settings}))
    expected = lm_eval_on_folder(folder, root / "tasks")
    assert expected != plain
    suite = load(root, ["written"], split={"search": 0.4, "select": 0.3, "report": 0.3})
    assert all_parts(suite, AutoModelForCausalLM.from_pretrained(folder))["written"] == expected
    again = score_checkpoint(suite, folder, "report").items["written"]
    assert dict(zip(again.ids, again.values.tolist(), strict=True)).items() <= expected.items()
    if settings.keys() != {"eos_token_id"}:
        assert suite.scorers["written"] == "hf"

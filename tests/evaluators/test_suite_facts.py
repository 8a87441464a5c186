"""Facts that explain suspicious scores: chance, limits, BOS, other filters, tokenizers that are loaded otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_models import write_model
from tiny_tasks import documents, load, make_model, make_tokenizer, score_part, write_task
from tokenizers import processors
from transformers import AutoTokenizer

from mergesmith.evaluators.checks.collect_facts import tokenizer_difference

TEXTS = [f"item {i} = a\n" for i in range(20)]


def test_facts_of_tasks(tmp_path: Path) -> None:
    write_task(tmp_path / "tasks", "mc", "choice", docs=documents(100, 0))
    write_task(tmp_path / "tasks", "gen", "generation", docs=documents(100, 1))
    facts = load(tmp_path, ["mc", "gen"]).facts(tmp_path / "tokenizer.json", None)
    mc, gen = facts.leaves["mc"], facts.leaves["gen"]
    assert (mc.chance, mc.limit, mc.missing_bos) == (0.25, None, "<s>")
    assert (gen.chance, gen.limit, gen.stops, gen.filter) == (None, 6, ("\n",), "letters")
    assert facts.has_template and not facts.applies_template and facts.difference is None


def test_prompts_with_bos(tmp_path: Path) -> None:
    write_task(tmp_path / "tasks", "mc", "choice", docs=documents(100, 0))
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    facts = load(tmp_path, ["mc"], tokenizer=tokenizer).facts(tmp_path / "tokenizer.json", None)
    assert facts.leaves["mc"].missing_bos == ""


def test_other_filters_score_the_same_answers(tmp_path: Path) -> None:
    write_task(tmp_path / "tasks", "gen", "generation", docs=documents(100, 1))
    write_task(tmp_path / "tasks", "mc", "choice", docs=documents(100, 0))
    model = make_model()
    found = score_part(load(tmp_path, ["gen", "mc"], block_items=10), model, "search").items
    assert list(found["gen"].by_filter) == ["plain"] and not found["mc"].by_filter
    alone = score_part(load(tmp_path, [{"name": "gen", "filter": "plain"}], block_items=10), model, "search").items
    assert found["gen"].ids == alone["gen"].ids
    assert np.array_equal(found["gen"].by_filter["plain"], alone["gen"].values)
    assert np.array_equal(alone["gen"].by_filter["letters"], found["gen"].values)


def test_a_filter_that_fails_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise TypeError("no text")

    write_task(tmp_path / "tasks", "gen", "generation", docs=documents(100, 1))
    monkeypatch.setattr("mergesmith.evaluators.scoring.other_filters.apply_filter", fails)
    assert score_part(load(tmp_path, ["gen"]), make_model(), "search").items["gen"].by_filter == {}


@pytest.mark.parametrize(("family", "differing"), [("llama", 0), ("qwen2", len(TEXTS))])
def test_tokenizers_that_are_loaded_otherwise(tmp_path: Path, family: str, differing: int) -> None:
    """Transformers replaces the pre-tokenizer of qwen2, so single characters become words that the file splits."""
    write_model(tmp_path, family, layers=1)
    found = tokenizer_difference(tmp_path / "tokenizer.json", AutoTokenizer.from_pretrained(tmp_path), TEXTS)
    if not differing:
        assert found is None
        return
    assert found is not None
    assert (found.texts, found.differing) == (len(TEXTS), differing)
    assert found.by_file != found.by_transformers
    assert found.example and found.example in TEXTS[0]

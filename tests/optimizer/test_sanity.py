"""Warnings about the scores of the base and the models: each for a case that deserves it, none for a healthy one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command
from tiny_models import write_family
from tiny_run import write_search

from mergesmith.evaluators import ItemScores, Leaf, LeafFacts, Scores, SuiteFacts, TaskEntry, TokenizerDifference
from mergesmith.optimizer.search.objective import paired_difference
from mergesmith.optimizer.search.sanity import ScoredModel, sanity_warnings

MC = TaskEntry("mc", 1.0, "acc", "none", 1, True, None, (Leaf("mc", 1.0, "mean"),))
GEN = TaskEntry("gen", 1.0, "exact_match", "strict", 1, True, None, (Leaf("gen", 1.0, "mean"),))
ENTRIES = (MC, GEN)
FACTS = SuiteFacts({"mc": LeafFacts(chance=0.25), "gen": LeafFacts("strict", limit=32, stops=("\n",))})


def model(
    name: str, *, mc: float = 0.5, gen: float = 0.5, by_filter: float | None = None, **rates: float
) -> ScoredModel:
    """A model with these shares of right items among 200 of each task, and these rates of its answers."""

    def values(share: float) -> np.ndarray:
        return (np.arange(200) < round(200 * share)).astype(np.float64)

    ids = tuple(map(str, range(200)))
    facts = np.stack([values(rates.get(fact, 0.0)) for fact in ("truncated", "empty", "unextracted", "length")], axis=1)
    others = {} if by_filter is None else {"flexible": values(by_filter)}
    items = {"mc": ItemScores(ids, values(mc)), "gen": ItemScores(ids, values(gen), facts, others)}
    return ScoredModel.of(name, ENTRIES, Scores("search", items))


HEALTHY = (model("base", mc=0.4, gen=0.3, by_filter=0.3), model("parent ./a", mc=0.6, gen=0.5, by_filter=0.55))


def test_a_healthy_run_has_no_warnings() -> None:
    assert sanity_warnings(HEALTHY, ENTRIES, FACTS) == []
    assert sanity_warnings([], ENTRIES, FACTS) == []


def only(warnings: list[str]) -> str:
    assert len(warnings) == 1, warnings
    return warnings[0]


def test_a_task_on_which_nothing_scores() -> None:
    models = [model("base", mc=0.4, gen=0), model("parent ./a", mc=0.6, gen=0)]
    text = only(sanity_warnings(models, ENTRIES, FACTS))
    assert text.startswith("gen: the base and all models score 0 on 200 items") and "none found" in text
    assert sanity_warnings([models[0], model("parent ./a", mc=0.6, gen=0.1)], ENTRIES, FACTS) == []


def test_a_task_at_chance() -> None:
    models = [model("base", mc=0.25, gen=0.3), model("parent ./a", mc=0.3, gen=0.5)]
    text = only(sanity_warnings(models, ENTRIES, FACTS))
    assert "mc: neither the base nor a model is above chance" in text
    assert "0.300 ± 0.032 on 200 items, random answers 0.250" in text


@pytest.mark.parametrize(
    ("rates", "facts", "cause"),
    [
        ({"empty": 0.9}, {}, r"90% of the answers are empty, so a stop string \(until: '\\n'\)"),
        ({"unextracted": 1.0}, {}, "filter 'strict' extracts nothing from 100% of the answers"),
        ({}, {"has_template": True}, "set chat.apply_template to true"),
        ({}, {"has_template": True, "applies_template": True}, "set chat.apply_template to false"),
        ({}, {"leaves": {"gen": LeafFacts("strict", missing_bos="<s>")}}, "prompts lack the BOS token <s>"),
    ],
)
def test_causes_of_a_zero(rates: dict[str, float], facts: dict[str, Any], cause: str) -> None:
    models = [model("base", mc=0.4, gen=0, **rates), model("parent ./a", mc=0.6, gen=0, **rates)]
    assert re.search(cause, only(sanity_warnings(models, ENTRIES, replace(FACTS, **facts))))


def test_two_filters_that_disagree() -> None:
    models = [HEALTHY[0], model("parent ./a", mc=0.6, gen=0.5, by_filter=0.65)]
    text = only(sanity_warnings(models, ENTRIES, FACTS))
    assert "the same answers of parent ./a score 0.500 by filter 'strict'" in text
    assert "0.650 by filter 'flexible'" in text and "set filter: flexible" in text


def test_answers_cut_off() -> None:
    models = [HEALTHY[0], model("parent ./a", mc=0.6, truncated=0.06)]
    text = only(sanity_warnings(models, ENTRIES, FACTS))
    assert "gen: answers are cut off at the limit of 32 tokens: 6% of parent ./a." in text and "max_gen_toks" in text
    assert sanity_warnings([HEALTHY[0], model("parent ./a", mc=0.6, truncated=0.05)], ENTRIES, FACTS) == []


def test_models_that_do_not_beat_the_base() -> None:
    models = [HEALTHY[0], model("parent ./a", mc=0.41, gen=0.2)]
    text = only(sanity_warnings(models, ENTRIES, FACTS))
    assert "no model is better than the base" in text and "parent ./a on mc, +0.010 ± 0.007, 200 items" in text


def test_a_tokenizer_that_is_loaded_otherwise() -> None:
    facts = replace(FACTS, difference=TokenizerDifference(100, 7, "a b", (1, 2, 3), (4,)))
    text = only(sanity_warnings(HEALTHY, ENTRIES, facts))
    assert "7 of 100" in text and "'a b' is [1, 2, 3] by the file and [4] as loaded" in text


def test_paired_differences() -> None:
    first, second = (m.items for m in (HEALTHY[1], HEALTHY[0]))
    assert first is not None and second is not None
    found = paired_difference(MC, first, second)
    assert found.value == pytest.approx(0.2) and found.n == 200
    assert found.stderr == pytest.approx(np.sqrt(0.2 * 0.8 / 200), rel=0.15)
    assert paired_difference(replace(MC, sign=-1), first, second).value == pytest.approx(-0.2)


def test_a_search_and_a_plan_warn(command: Command, tmp_path: Path) -> None:
    """The tokenizer of the tiny qwen2 models is loaded otherwise, and the answers to `gen` end at their limit."""
    write_family(tmp_path, "qwen2", layers=2)
    config = write_search(tmp_path, search={"sampler": "random", "trials": 1, "seed": 0})
    planned = command("plan", config, "--score")
    assert planned.code == 0, planned.err
    searched = command("search", config)
    assert searched.code == 0, searched.err
    recorded = json.loads((tmp_path / "run" / "sanity.json").read_text())["warnings"]
    assert any("transformers loads a tokenizer" in warning for warning in recorded)
    assert any("gen: answers are cut off at the limit of 2 tokens" in warning for warning in recorded)
    shown = searched.out + searched.err
    for warning in recorded:
        assert f"warning: {warning}" in shown and f"warning: {warning}" in planned.out + planned.err
    assert "search items (± standard error)" in planned.out
    assert "cut off" not in command("plan", config).out

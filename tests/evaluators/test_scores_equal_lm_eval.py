"""Item for item, Suite.score gives what simple_evaluate gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_tasks import (
    all_parts,
    documents,
    graded,
    harness_items,
    harness_prompts,
    harness_run,
    load,
    make_model,
    score_part,
    suite_prompts,
    write_task,
)

from mergesmith.evaluators import entry_score

TRAIN = documents(12, seed=9)
CASES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "choice": ("choice", "acc", "none", {"train": TRAIN, "num_fewshot": 2}),
    "choice_norm": ("choice", "acc_norm", "none", {}),
    "likelihood": ("likelihood", "perplexity", "none", {"train": TRAIN, "num_fewshot": 1}),
    "rolling": ("rolling", "word_perplexity", "none", {}),
    "generation": ("generation", "graded", "letters", graded()),
    "generation_plain": ("generation", "graded", "plain", graded(train=TRAIN, num_fewshot=1)),
}


def test_items_of_all_output_types(root: Path) -> None:
    for i, (name, (kind, _, _, overrides)) in enumerate(CASES.items()):
        write_task(root / "tasks", name, kind, docs=documents(150, seed=i), **overrides)
    suite = load(root, [{"name": n, "metric": m, "filter": f} for n, (_, m, f, _) in CASES.items()])
    model = make_model()
    ours = all_parts(suite, model)
    theirs = harness_run(model, list(CASES), root / "tasks")
    for name, (_, metric, filter_name, _) in CASES.items():
        expected = harness_items(theirs, name, metric, filter_name)
        assert suite_prompts(suite, name) == harness_prompts(theirs, name)
        assert ours[name].keys() == expected.keys()
        order = sorted(expected)
        np.testing.assert_allclose(
            [ours[name][item] for item in order], [expected[item] for item in order], rtol=1e-5, atol=1e-5
        )
    assert len(set(ours["generation_plain"].values())) > 20  # the comparison is not one of zeros


@pytest.mark.parametrize("settings", [{}, {"system": "be brief"}, {"fewshot_as_multiturn": False}])
def test_chat_prompts_and_items(root: Path, settings: dict[str, Any]) -> None:
    from mergesmith.evaluators import ChatConfig

    write_task(root / "tasks", "choice", "choice", docs=documents(150, seed=1), train=TRAIN, num_fewshot=2)
    suite = load(root, ["choice"], chat=ChatConfig(apply_template=True, **settings))
    model = make_model()
    passed = {{"system": "system_instruction"}.get(key, key): value for key, value in settings.items()}
    theirs = harness_run(model, ["choice"], root / "tasks", apply_chat_template=True, **passed)
    assert suite_prompts(suite, "choice") == harness_prompts(theirs, "choice")
    assert all_parts(suite, model)["choice"] == harness_items(theirs, "choice", "acc")
    turns = suite_prompts(suite, "choice")[0][0][0].count("<assistant>")
    assert turns == (1 if settings.get("fewshot_as_multiturn") is False else 3)


@pytest.mark.parametrize("limit", [120, 0.746])  # 0.746 of 160 documents are 119.36: rounded up
def test_limit_and_num_fewshot_equal_lm_evals(root: Path, limit: float) -> None:
    write_task(root / "tasks", "choice", "choice", docs=documents(160, seed=1), train=TRAIN)
    write_task(root / "tasks", "fixed", "choice", docs=documents(160, seed=2), train=TRAIN, num_fewshot=0)
    names = ["choice", "fixed"]
    suite = load(root, [{"name": name, "num_fewshot": 2, "limit": limit} for name in names])
    theirs = harness_run(make_model(), names, root / "tasks", num_fewshot=2, limit=limit)
    for name in names:
        assert suite_prompts(suite, name) == harness_prompts(theirs, name)
        assert len(suite_prompts(suite, name)) == 120
    assert any("fixes num_fewshot to 0" in warning for warning in suite.warnings)


def test_aggregates_equal_lm_evals_over_all_documents(root: Path) -> None:
    for name, kind in (("likelihood", "likelihood"), ("rolling", "rolling")):
        write_task(root / "tasks", name, kind, docs=documents(150, seed=1))
    suite = load(root, ["likelihood", {"name": "rolling", "metric": "bits_per_byte"}])
    model = make_model()
    theirs = harness_run(model, ["likelihood", "rolling"], root / "tasks")["results"]
    assert suite.entries[0].metric == "acc"
    scores = {part: score_part(suite, model, part) for part in ("search", "select", "report")}
    whole = [np.concatenate([part.items["rolling"].values for part in scores.values()])]
    from mergesmith.evaluators.scoring.aggregate import leaf_value

    assert leaf_value(suite.entries[1].leaves[0], whole[0]) == pytest.approx(theirs["rolling"]["bits_per_byte,none"])
    assert entry_score(suite.entries[1], scores["search"]).stderr > 0


def write_group(root: Path, *, by_size: bool) -> None:
    write_task(root / "tasks", "small", "choice", docs=documents(40, seed=1))
    write_task(root / "tasks", "large", "choice", docs=documents(120, seed=2))
    aggregate = f"aggregate_metric_list: [{{metric: acc, aggregation: mean, weight_by_size: {str(by_size).lower()}}}]"
    (root / "tasks" / "inner.yaml").write_text("group: inner\ntask: [large]\n")
    (root / "tasks" / "both.yaml").write_text(f"group: both\ntask: [small, inner]\n{aggregate}\n")


@pytest.mark.parametrize("by_size", [True, False])
def test_a_nested_group_is_one_entry_with_flat_shares(root: Path, by_size: bool) -> None:
    write_group(root, by_size=by_size)
    suite = load(root, ["both"])
    (entry,) = suite.entries
    assert {leaf.name: leaf.share for leaf in entry.leaves} == (
        {"small": 0.25, "large": 0.75} if by_size else {"small": 0.5, "large": 0.5}
    )
    model = make_model()
    theirs = harness_run(model, ["both"], root / "tasks")
    ours = all_parts(suite, model)
    value = sum(leaf.share * np.mean(list(ours[leaf.name].values())) for leaf in entry.leaves)
    assert value == pytest.approx(theirs["results"]["both"]["acc,none"])
    assert suite.counts("search")["both"] + suite.counts("select")["both"] + suite.counts("report")["both"] == 160


def test_a_tag_is_an_entry_of_equal_shares(root: Path) -> None:
    for i, name in enumerate(("one", "two")):
        write_task(root / "tasks", name, "choice", docs=documents(80, seed=i), tag="pair")
    (entry,) = load(root, ["pair"]).entries
    assert [(leaf.name, leaf.share) for leaf in entry.leaves] == [("one", 0.5), ("two", 0.5)]

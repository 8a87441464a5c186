"""Tasks whose `process_results` leaves the metric out for some documents: means are over the others, as in lm-eval."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_tasks import documents, graded, harness_run, load, make_model, make_tokenizer, score_part, write_task

from mergesmith.evaluators import BlockScores, ItemScores, Leaf, Scores, TaskEntry, entry_score, join, score_checkpoint

DOCS = documents(150, seed=1)
# Whether the metric is there depends on the document for `by_document`, and on the answer for `by_answer`.
SCORING = """
def value(results):
    return sum((i + 1) * ord(c) for i, c in enumerate(results[0])) % 97 / 97


def by_document(doc, results):
    other = {"other": 1.0}
    return other if len(doc["question"]) % 3 == 0 else {"graded": value(results), **other}


def by_answer(doc, results):
    other = {"other": 1.0}
    return other if value(results) < 0.3 else {"graded": value(results), **other}


def never(doc, results):
    return {"other": 1.0}
"""
METRICS = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("graded", "other")]


def write(root: Path, function: str) -> Any:
    overrides = graded(metric_list=METRICS, process_results=f"!function scoring.{function}")
    write_task(root / "tasks", "task", "generation", docs=DOCS, **overrides)
    (root / "tasks" / "scoring.py").write_text(SCORING)
    return load(root, [{"name": "task", "metric": "graded", "filter": "plain"}])


@pytest.mark.parametrize("function", ["by_document", "by_answer"])
def test_the_mean_is_lm_evals(function: str, root: Path) -> None:
    suite, model = write(root, function), make_model()
    theirs = harness_run(model, ["task"], root / "tasks")
    rows = {str(row["doc_id"]): row for row in theirs["samples"]["task"] if row["filter"] == "plain"}
    found: dict[str, float] = {}
    for part in ("search", "select", "report"):
        scores = score_part(suite, model, part)
        items = scores.items["task"]
        found |= dict(zip(items.ids, items.values.tolist(), strict=True))
        score = entry_score(suite.entries[0], scores)
        present = [rows[item]["graded"] for item in items.ids if "graded" in rows[item]]
        assert score.n == len(present) == items.known.sum() < len(items.ids)
        assert score.value == pytest.approx(np.mean(present))
        assert score.stderr == pytest.approx(np.std(present, ddof=1) / math.sqrt(len(present)))
    assert {item for item, value in found.items() if math.isnan(value)} == {
        item for item, row in rows.items() if "graded" not in row
    }
    assert np.nanmean(list(found.values())) == pytest.approx(theirs["results"]["task"]["graded,plain"])


def test_scores_by_other_filters(root: Path) -> None:
    suite, model = write(root, "by_answer"), make_model()
    items = score_part(suite, model, "search").items["task"]
    rows = harness_run(model, ["task"], root / "tasks")["samples"]["task"]
    letters = {str(row["doc_id"]): row.get("graded", math.nan) for row in rows if row["filter"] == "letters"}
    np.testing.assert_allclose(items.by_filter["letters"], [letters[item] for item in items.ids])
    assert np.isnan(items.by_filter["letters"]).any()
    assert set(items.by_filter) == {"letters"}


@pytest.mark.parametrize("function", ["by_document", "by_answer"])
def test_a_written_checkpoint_has_the_same_items(function: str, root: Path, tmp_path: Path) -> None:
    suite, model = write(root, function), make_model()
    model.save_pretrained(tmp_path / "checkpoint")
    make_tokenizer().save_pretrained(tmp_path / "checkpoint")
    ours = score_part(suite, model, "report").items["task"]
    theirs = score_checkpoint(suite, tmp_path / "checkpoint", "report").items["task"]
    np.testing.assert_array_equal(ours.values, theirs.values)
    assert np.isnan(ours.values).any()


def test_no_document_has_the_metric(root: Path) -> None:
    suite = write(root, "never")
    scores = score_part(suite, make_model(), "select")
    assert not scores.items["task"].known.any()
    score = entry_score(suite.entries[0], scores)
    assert math.isnan(score.value)
    assert math.isnan(score.stderr)
    assert score.n == 0


def test_metrics_with_several_numbers_per_item() -> None:
    rows = np.array([(-float(i % 7) - 3, 2.0 + i % 3) for i in range(30)])
    entry = TaskEntry("e", 1.0, "m", "none", -1, False, None, (Leaf("a", 1.0, "weighted_perplexity"),))

    def block(index: int, start: int, values: np.ndarray) -> BlockScores:
        ids = tuple(str(start + i) for i in range(len(values)))
        return BlockScores("search", index, {"a": ItemScores(ids, values)}, 0.1)

    some = rows.copy()
    some[[3, 8]] = np.nan
    # A block without any value does not know how many numbers an item has.
    scores = join([block(0, 0, some), block(1, 30, np.full(4, np.nan))])
    assert scores.items["a"].values.shape == (34, 2)
    assert scores.items["a"].known.sum() == 28
    kept = Scores("search", {"a": ItemScores(tuple(map(str, range(28))), np.delete(rows, [3, 8], axis=0))})
    assert entry_score(entry, scores) == entry_score(entry, kept)

"""Groups whose tasks have different metrics, such as openllm and leaderboard, and groups with mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_tasks import all_parts, documents, graded, harness_items, harness_run, load, make_model, write_task

from mergesmith.errors import UserError


def write_group(root: Path, members: str = "[choice, written]", *, more: str = "") -> None:
    folder = root / "tasks"
    write_task(folder, "choice", "choice", docs=documents(90, seed=1))
    write_task(folder, "written", "generation", docs=documents(60, seed=2), **graded())
    write_task(folder, "surprise", "likelihood", docs=documents(60, seed=3), metric_list=[PERPLEXITY])
    (folder / "both.yaml").write_text(f"group: both\ntask: {members}\n{more}")


PERPLEXITY = {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}


def test_each_task_of_a_group_keeps_its_metric(root: Path) -> None:
    write_group(root)
    suite, model = load(root, ["both"]), make_model()
    (entry,) = suite.entries
    assert (entry.metric, entry.filter, entry.sign) == ("acc, graded", "none, letters", 1)
    assert [leaf.share for leaf in entry.leaves] == [0.5, 0.5]
    found = all_parts(suite, model)
    results = harness_run(model, ["both"], root / "tasks", log_samples=True)
    assert found["choice"] == harness_items(results, "choice", "acc")
    assert found["written"] == harness_items(results, "written", "graded", "letters")
    assert any("its value is the mean of metrics with different ranges" in w for w in suite.warnings)


def test_a_group_of_different_metrics_may_weight_by_size(root: Path) -> None:
    write_group(root, more="aggregate_metric_list: [{metric: graded, weight_by_size: true}]\n")
    (entry,) = load(root, ["both"]).entries
    assert [leaf.share for leaf in entry.leaves] == [0.6, 0.4]


def test_a_metric_that_all_tasks_have_is_used_for_all(root: Path) -> None:
    write_group(root, "[choice, surprise]")
    path = root / "tasks" / "surprise.yaml"
    path.write_text(path.read_text() + "- {metric: acc, aggregation: mean, higher_is_better: true}\n")
    assert load(root, ["both"]).entries[0].metric == "acc"


def test_metrics_of_different_directions_have_no_mean(root: Path) -> None:
    write_group(root, "[choice, surprise]")
    with pytest.raises(UserError, match=r"better for choice \(acc\) and lower is better for surprise \(perplexity\)"):
        load(root, ["both"])


def test_a_metric_that_some_tasks_lack(root: Path) -> None:
    write_group(root)
    with pytest.raises(UserError, match=r"unknown metric of written 'acc'\..* each task of 'both' keeps its default"):
        load(root, [{"name": "both", "metric": "acc"}])


@pytest.mark.usefixtures("short_index")
@pytest.mark.parametrize("members", ["[choice, writen]", "[choice, {task: writen, num_fewshot: 0}]", "[inner]"])
def test_an_unknown_task_in_a_group_is_named_with_its_group(root: Path, members: str) -> None:
    write_group(root, members)
    (root / "tasks" / "inner.yaml").write_text("group: inner\ntask: [writen]\n")
    group = "inner" if members == "[inner]" else "both"
    with pytest.raises(UserError, match=rf"its group '{group}' names the task 'writen': unknown task"):
        load(root, ["both"])

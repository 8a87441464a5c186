"""A candidate that cannot be scored raises ScoringError with the task and the item, and never gets a number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_tasks import documents, graded, load, make_model, make_tokenizer, score_part, write_task
from transformers import BloomConfig, BloomForCausalLM

from mergesmith.evaluators import ScoringError, ScoringPlan, SplitConfig
from mergesmith.evaluators.inference.batches import make_batches
from mergesmith.evaluators.scoring import likelihood_requests
from mergesmith.evaluators.scoring.token_budget import CPU_BUDGET, device_budget, halved_until_it_fits
from mergesmith.evaluators.tasks.documents import digest, part_of

DOCS = documents(150, seed=1)


@pytest.mark.parametrize("kind", ["choice", "likelihood", "rolling", "generation"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("scorer", ["auto", "hf"])
def test_non_finite_outputs(root: Path, kind: str, value: float, scorer: Any) -> None:
    write_task(root / "tasks", "task", kind, docs=DOCS)
    suite, model = load(root, ["task"], scorer=scorer), make_model()
    suite.check_scorers(lambda: [("sound", lambda: model)])
    with torch.no_grad():
        model.lm_head.weight[7].fill_(value)
    with pytest.raises(ScoringError, match=r"task 'task', item \d+: .*(not finite|nan|inf)"):
        score_part(suite, model, "select")


def test_one_bad_generation_is_named(root: Path) -> None:
    marked = [{**doc, "question": doc["question"] + "|"} for doc in DOCS]  # a token that no other prompt holds
    bad = next(i for i in range(20, 150) if part_of(digest(marked[i]), SplitConfig()) == "search")
    write_task(root / "tasks", "task", "generation", docs=[*DOCS[:bad], marked[bad], *DOCS[bad + 1 :]], **graded())
    suite, model = load(root, ["task"]), make_model()
    with torch.no_grad():
        model.model.embed_tokens.weight[make_tokenizer().encode("|")[0]].fill_(float("nan"))
    block = next(block for block in suite.blocks("search") if bad in block.items["task"])
    with pytest.raises(ScoringError, match=rf"task 'task', item {bad}: the model's logits are not finite"):
        suite.score(model, block)


def test_a_metric_that_fails_on_an_answer(root: Path) -> None:
    metric = {"metric": "graded", "aggregation": "mean", "higher_is_better": True}
    write_task(root / "tasks", "task", "generation", docs=DOCS, **graded(metric_list=[metric]))
    (root / "tasks" / "scoring.py").write_text(
        "def graded(doc, results):\n    return {'graded': {'1': 1.0}[results[0]]}\n"
    )
    suite = load(root, ["task"])
    with pytest.raises(ScoringError, match=r"task 'task', item \d+: the metric failed: KeyError"):
        score_part(suite, make_model(), "select")


def test_failing_filters_and_models_that_fail_to_load(root: Path) -> None:
    filters = [{"name": "own", "filter": [{"function": "custom", "filter_fn": "!function scoring.bad"}]}]
    write_task(root / "tasks", "task", "generation", docs=DOCS, filter_list=filters)
    (root / "tasks" / "scoring.py").write_text("def bad(resps, docs):\n    raise KeyError('no answer')\n")
    with pytest.raises(ScoringError, match=r"task 'task': its filter 'own' failed: KeyError"):
        load(root, ["task"]).check_scorers(lambda: [("it", make_model)])
    write_task(root / "tasks", "sound", "choice", docs=DOCS)

    def fails() -> Any:
        raise RuntimeError("no such weights")

    small = partial(make_model, vocab_size=30)  # the tokenizer has more
    report = load(root, ["sound"]).check_scorers(lambda: [("lost", fails), ("small", small), ("good", make_model)])
    assert report.checks["sound"].compared == 8
    assert "lost takes no part" in report.unchecked[0]
    assert "RuntimeError: no such weights" in report.unchecked[0]
    assert "small takes no part" in report.unchecked[1]


def test_a_bounded_metric_outside_its_range_is_an_error(root: Path) -> None:
    metric = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
    write_task(root / "tasks", "task", "generation", docs=DOCS, **graded(metric_list=[metric]))
    (root / "tasks" / "scoring.py").write_text("def graded(doc, results):\n    return {'acc': 100.0}\n")
    with pytest.raises(ScoringError, match=r"metric 'acc' must lie in \[0, 1\], but is 100"):
        score_part(load(root, ["task"]), make_model(), "select")


@contextmanager
def memory_for(model: Any, tokens: int) -> Iterator[list[int]]:
    """A device whose memory ends at so many tokens per forward pass; gives the sizes of the passes that fitted."""
    passed: list[int] = []

    def check(_module: Any, inputs: Any) -> None:
        if inputs[0].numel() > tokens:
            raise torch.OutOfMemoryError(f"{inputs[0].numel()} tokens")
        passed.append(inputs[0].numel())

    handle = model.register_forward_pre_hook(check)
    try:
        yield passed
    finally:
        handle.remove()


def test_out_of_memory_while_batches_are_arranged(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_task(root / "tasks", "task", "choice", docs=DOCS)
    suite, model = load(root, ["task"]), make_model()
    suite.check_scorers(lambda: [("it", lambda: model)])
    asked: list[int] = []

    def arranged(rows: Any, *, tokens: int, **others: Any) -> Any:
        asked.append(tokens)
        if len(asked) == 1:
            raise torch.OutOfMemoryError("no room for the batches")
        return make_batches(rows, tokens=tokens, **others)

    monkeypatch.setattr(likelihood_requests, "make_batches", arranged)
    assert suite.score(model, suite.blocks("search")[0]).smaller_batches
    assert asked[1] == asked[0] // 2


@pytest.mark.parametrize("kind", ["choice", "rolling", "generation"])
def test_out_of_memory_halves_the_batches_once(root: Path, kind: str) -> None:
    write_task(root / "tasks", "task", kind, docs=DOCS)
    suite, model = load(root, ["task"], token_budget=1024), make_model()
    usual = score_part(suite, model, "search").items["task"].values.tolist()
    with memory_for(model, 600) as passed:
        np.testing.assert_allclose(score_part(suite, model, "search").items["task"].values, usual, rtol=1e-5)
        assert 256 < max(passed) <= 512
    with memory_for(model, 20), pytest.raises(ScoringError, match=r"out of memory.*scoring\.token_budget below 512"):
        score_part(suite, model, "search")
    assert score_part(suite, model, "search").items["task"].values.tolist() == usual


def test_the_self_check_halves_batches_until_they_fit_into_memory(root: Path) -> None:
    train = documents(12, seed=9)
    write_task(root / "tasks", "task", "choice", docs=DOCS, train=train, num_fewshot=4)
    suite, model = load(root, ["task"]), make_model()
    with memory_for(model, 700):  # less than lm-eval's 32 rows, and less than our 8
        report = suite.check_scorers(lambda: [("it", lambda: model)])
    assert report.plan.token_budget == 512
    assert report.checks["task"].compared == 8
    with memory_for(model, 20), pytest.raises(ScoringError, match="one row per batch"):
        suite.check_scorers(lambda: [("it", lambda: model)])


@pytest.mark.parametrize("scorer", ["auto", "hf"])
def test_the_plan_records_the_batch_size_that_fits_into_memory(root: Path, scorer: Any) -> None:
    sampled = {"until": ["\n"], "do_sample": True, "temperature": 0.7, "max_gen_toks": 3}  # for lm-eval's own only
    write_task(root / "tasks", "task", "generation", docs=documents(60, seed=1), generation_kwargs=sampled)
    suite, model = load(root, ["task"], scorer=scorer), make_model()

    def check(_module: Any, _inputs: Any, named: dict[str, Any]) -> None:
        if len(named["input_ids"]) > rows:
            raise torch.OutOfMemoryError("too many rows")

    model.register_forward_pre_hook(check, with_kwargs=True)
    rows = 4
    plan = suite.check_scorers(lambda: [("it", lambda: model)]).plan
    assert plan.batch_size == 4
    resumed = load(root, ["task"], scorer=scorer)
    resumed.use(ScoringPlan.from_document(plan.to_document()))
    score_part(resumed, model, "select")
    rows = 1
    with pytest.raises(ScoringError, match=r"half the size; set scoring\.batch_size below 2"):
        score_part(resumed, model, "select")


@pytest.mark.parametrize("kind", ["choice", "generation"])
def test_the_token_budget_fits_into_memory(root: Path, kind: str) -> None:
    write_task(root / "tasks", "task", kind, docs=DOCS)
    content, model = load(root, ["task"]).content, make_model()
    content.lm.attach(model)
    with memory_for(model, 5000) as passed:
        assert device_budget(content, model, 16384) == 4096
    assert max(passed) > 3500

    def fails(_tokens: int) -> None:
        raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        halved_until_it_fits(fails, 16384)


def test_the_token_budget_of_models_without_custom_masks(root: Path) -> None:
    write_task(root / "tasks", "task", "choice", docs=DOCS)
    content = load(root, ["task"]).content
    model: Any = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=2)).eval()
    content.lm.attach(model)
    with memory_for(model, 5000):
        assert device_budget(content, model, 8192) == 4096
    model.register_forward_pre_hook(lambda *_: model.no_such_part)
    assert device_budget(content, model, 8192) == CPU_BUDGET

"""Losses of gold answers follow what lm-eval scores, and are differentiable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_tasks import documents, load, make_model, score_part, write_task

from mergesmith.evaluators import ChatConfig, Suite

PARTS = ("search", "select", "report")
FORMS = ("nll", "prob", "margin")
DOCS = documents(90, seed=5)


def everything(suite: Suite) -> dict[str, list[int]]:
    """All items of a suite."""
    found: dict[str, list[int]] = {}
    for part in PARTS:
        for block in suite.blocks(part):
            for leaf, ids in block.items.items():
                found.setdefault(leaf, []).extend(ids)
    return found


def losses(suite: Suite, model: Any, form: Any, **settings: Any) -> dict[tuple[str, int], float]:
    """(task, document) -> its loss; windows of a document add up."""
    found: dict[tuple[str, int], float] = {}
    with torch.no_grad():
        for batch in suite.gold_losses(model, everything(suite), **settings).batches:
            for item, value in zip(batch.items, batch.losses(model, form).tolist(), strict=True):
                found[item.leaf, item.doc] = found.get((item.leaf, item.doc), 0.0) + value
    return found


def scores(suite: Suite, model: Any) -> dict[tuple[str, int], Any]:
    return {
        (leaf, int(doc)): value
        for part in PARTS
        for leaf, items in score_part(suite, model, part).items.items()
        for doc, value in zip(items.ids, items.values.tolist(), strict=True)
    }


@pytest.mark.parametrize("metric", ["acc", "acc_norm"])
@pytest.mark.parametrize("scorer", ["packed", "rows"])
def test_choices(root: Path, metric: str, scorer: Any) -> None:
    write_task(root / "tasks", "choice", "choice", docs=DOCS)
    suite, model = load(root, [{"name": "choice", "metric": metric}], scorer=scorer), make_model()
    right = scores(suite, model)
    found = {form: losses(suite, model, form) for form in FORMS}
    assert found["margin"].keys() == right.keys()
    assert 0 < sum(right.values()) < len(right)
    for key, value in right.items():
        assert (found["margin"][key] < 0.5) == bool(value)
        assert found["prob"][key] == pytest.approx(1 - np.exp(-found["nll"][key]), abs=1e-5)


def test_generated_answers(root: Path) -> None:
    """A loss below 0.5 says that greedy decoding gives the gold answer and stops there, or at the limit."""
    settings = {"until": ["\n", *"stuvwxyz"], "do_sample": False, "max_gen_toks": 4}
    task = {"target_delimiter": "", "generation_kwargs": settings}
    write_task(root / "tasks", "first", "generation", docs=DOCS, **task)
    suite, model = load(root, [{"name": "first", "filter": "plain"}]), make_model(seed=3)
    scores(suite, model)
    docs = []
    for i, doc in enumerate(DOCS):
        (request,) = suite.content.leaves["first"].requests[i]
        answer = request.instance.resps[0]
        docs.append({**doc, "choices": [answer if i % 2 and answer else doc["choices"][0]]})
    write_task(root / "tasks", "again", "generation", docs=docs, **task)
    suite = load(root, [{"name": "again", "filter": "plain"}])
    right, found = scores(suite, model), losses(suite, model, "margin")
    assert found.keys() == right.keys()
    assert 10 < sum(right.values()) < len(right)
    assert {key for key, value in found.items() if value < 0.5} == {key for key, value in right.items() if value}


def test_prompts_are_those_of_the_scorer(root: Path) -> None:
    write_task(root / "tasks", "shots", "generation", docs=DOCS, train=documents(8, seed=9), num_fewshot=2)
    write_task(root / "tasks", "sampled", "generation", docs=DOCS, generation_kwargs={"do_sample": True})
    suite, model = load(root, ["shots", "sampled"], chat=ChatConfig(apply_template=True)), make_model()
    gold = suite.gold_losses(model, everything(suite))
    assert list(gold.missing) == ["sampled"]
    assert gold.missing["sampled"].startswith("90 of 90 items: ")
    tokenizer = suite.content.lm.tokenizer
    seen = 0
    for batch in gold.batches:
        for item in batch.items:
            (expected,), (request,) = suite.content.leaves[item.leaf].requests[item.doc], item.requests
            assert list(request.context) == expected.prompt
            answer = DOCS[item.doc]["choices"][0]
            assert tokenizer.decode(request.tokens[: len(answer)]) == answer[: len(request.tokens)]
            assert set(request.ends) == ({tokenizer.eos_token_id, *tokenizer.encode("\n")} if request.ends else set())
            seen += 1
    assert seen == len(DOCS)


def test_likelihoods(root: Path) -> None:
    write_task(root / "tasks", "likelihood", "likelihood", docs=DOCS)
    write_task(root / "tasks", "rolling", "rolling", docs=DOCS)
    tasks = [{"name": "likelihood", "metric": "perplexity", "weight": 3.0}, "rolling"]
    suite, model = load(root, tasks, max_length=16), make_model()
    right, found = scores(suite, model), losses(suite, model, "nll")
    assert found.keys() == right.keys()
    for (leaf, doc), value in right.items():
        tokens = suite.content.leaves[leaf].requests[doc][0]
        count = len(tokens.tokens or (tokens.pair or ((), (), ()))[2])
        likelihood = value[0] if isinstance(value, list) else value
        assert found[leaf, doc] == pytest.approx(-likelihood / count, rel=1e-4)
    gold = suite.gold_losses(model, everything(suite))
    weights: dict[str, dict[int, float]] = {"likelihood": {}, "rolling": {}}
    for batch in gold.batches:
        for item, weight in zip(batch.items, batch.weights.tolist(), strict=True):
            weights[item.leaf][item.doc] = weight
    assert sum(weights["likelihood"].values()) == pytest.approx(0.75)
    assert sum(weights["rolling"].values()) == pytest.approx(0.25)


@pytest.mark.parametrize("form", FORMS)
def test_batches_and_gradients(root: Path, form: Any) -> None:
    """The same losses however items are batched; each has a gradient."""
    write_task(root / "tasks", "choice", "choice", docs=DOCS)
    write_task(root / "tasks", "generation", "generation", docs=DOCS)
    suite, model = load(root, ["choice", "generation"]), make_model()
    small, large = (losses(suite, model, form, tokens=tokens) for tokens in (64, 4096))
    assert small.keys() == large.keys()
    np.testing.assert_allclose([small[key] for key in large], list(large.values()), atol=1e-5)
    gold = suite.gold_losses(model, everything(suite), tokens=1024)
    assert len(gold.batches) > 1
    total = sum(float(batch.weights.sum()) for batch in gold.batches)
    assert total == pytest.approx(1.0)
    (gold.batches[0].losses(model, form) * gold.batches[0].weights).sum().backward()
    assert all(float(parameter.grad.abs().sum()) > 0.0 for parameter in model.parameters())

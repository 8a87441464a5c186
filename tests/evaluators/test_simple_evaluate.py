"""The independent re-score of a written checkpoint gives the items that the search saw."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from tiny_tasks import documents, graded, load, make_model, make_tokenizer, score_part, write_task
from torch.utils import collect_env

from mergesmith.evaluators import ChatConfig, score_checkpoint

TRAIN = documents(12, seed=9)


def write_all(root: Path) -> list[Any]:
    folder = root / "tasks"
    write_task(folder, "choice", "choice", docs=documents(130, seed=1), train=TRAIN, num_fewshot=2)
    write_task(folder, "sealed", "choice", docs=documents(130, seed=6), num_fewshot=2)
    write_task(folder, "likelihood", "likelihood", docs=documents(130, seed=2))
    write_task(folder, "rolling", "rolling", docs=documents(130, seed=3))
    write_task(folder, "generation", "generation", docs=documents(130, seed=4), **graded(train=TRAIN, num_fewshot=1))
    (folder / "pair.yaml").write_text("group: pair\ntask: [choice, sealed]\n")
    (root / "own.py").write_text(
        "def size(model, tokenizer, split):\n"
        "    return {split: float(model.lm_head.weight.sum()), 'vocabulary': len(tokenizer)}\n"
    )
    return [
        {"name": "pair", "limit": 125},
        {"name": "likelihood", "metric": "perplexity"},
        "rolling",
        {"name": "generation", "filter": "plain"},
        {"name": "size", "python": "./own.py:size"},
    ]


def written(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def test_items_are_identical(root: Path, tmp_path: Path) -> None:
    suite, model = load(root, write_all(root)), make_model()
    model.generation_config.update(repetition_penalty=1.4)
    ours = score_part(suite, model, "report")
    folder = written(model, tmp_path / "checkpoint")
    random.seed(3)
    expected_draw = random.random()
    random.seed(3)
    theirs = score_checkpoint(suite, folder, "report")
    assert random.random() == expected_draw
    assert theirs.part == "report"
    assert ours.items.keys() == theirs.items.keys()
    for leaf, items in ours.items.items():
        assert items.ids == theirs.items[leaf].ids
        close = leaf in ("likelihood", "rolling", "size")  # log-likelihoods move by rounding with the batch
        np.testing.assert_allclose(items.values, theirs.items[leaf].values, rtol=1e-5 if close else 0)


def test_chats_and_an_untied_checkpoint(root: Path, tmp_path: Path) -> None:
    write_task(root / "tasks", "choice", "choice", docs=documents(130, seed=1), train=TRAIN, num_fewshot=1)
    suite = load(root, ["choice"], chat=ChatConfig(apply_template=True, system="be brief"))
    model = make_model(tie_word_embeddings=True)
    model.lm_head.weight = torch.nn.Parameter(make_model(3).lm_head.weight.detach().clone())
    ours = score_part(suite, model, "select").items["choice"]
    model.config.tie_word_embeddings = False  # so that both tensors are written; then the config goes back to lying
    model.all_tied_weights_keys = {}
    folder = written(model, tmp_path / "checkpoint")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"tie_word_embeddings": false', '"tie_word_embeddings": true'))
    theirs = score_checkpoint(suite, folder, "select").items["choice"]
    np.testing.assert_array_equal(ours.values, theirs.values)


def test_changed_documents_are_rejected(root: Path, tmp_path: Path) -> None:
    write_task(root / "tasks", "choice", "choice", docs=documents(130, seed=1))
    suite = load(root, ["choice"])
    folder = written(make_model(), tmp_path / "checkpoint")
    write_task(root / "tasks", "choice", "choice", docs=documents(130, seed=2))
    with pytest.raises(RuntimeError, match="document or prompt differs from the one that was scored"):
        score_checkpoint(suite, folder, "select")


def test_installed_packages_are_not_listed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(collect_env, "get_pretty_env_info", lambda: calls.append("pip list") or "")
    before = collect_env.get_pretty_env_info
    write_task(root / "tasks", "choice", "choice", docs=documents(130, seed=1))
    suite = load(root, ["choice"])
    score_checkpoint(suite, written(make_model(), root / "model"), "report")
    assert calls == []
    assert collect_env.get_pretty_env_info is before


def test_only_the_part_is_scored(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The few-shot examples are those of a run over all documents, as the check of every prompt shows."""
    shots = {"docs": documents(130, seed=1), "train": TRAIN, "num_fewshot": 2}
    write_task(root / "tasks", "choice", "choice", **shots)
    suite = load(root, ["choice"])
    folder = written(make_model(), tmp_path / "checkpoint")
    asked: list[int] = []

    def counted(self: Any, requests: Any, *rest: Any, **more: Any) -> Any:
        asked.append(len({request.doc_id for request in requests}))
        return loglikelihood(self, requests, *rest, **more)

    loglikelihood = HFLM.loglikelihood
    monkeypatch.setattr(HFLM, "loglikelihood", counted)
    scores = score_checkpoint(suite, folder, "report")
    assert asked == [suite.counts("report")["choice"]]
    assert len(scores.items["choice"].ids) == asked[0] < 130

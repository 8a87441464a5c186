"""Few-shot examples never come from the select or report part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_tasks import documents, load, suite_prompts, write_task

from mergesmith.errors import UserError
from mergesmith.evaluators import SplitConfig
from mergesmith.evaluators.tasks.documents import digest, part_of

DOCS = documents(150, seed=1)
PARTS = [part_of(digest(doc), SplitConfig()) for doc in DOCS]


def examples(prompt: str) -> list[str]:
    return [line.removeprefix("q: ") for line in prompt.split("\n") if line.startswith("q: ")][:-1]


def drawn(root: Path) -> dict[int, list[str]]:
    suite = load(root, ["shots"])
    return {doc: examples(found[0][0]) for doc, found in suite_prompts(suite, "shots").items()}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"fewshot_split": "test"},
        {"fewshot_config": {"sampler": "first_n"}},
        {"test_split": None, "validation_split": "test"},
        {"test_split": None, "validation_split": "test", "fewshot_split": "test"},
        {"test_split": None, "validation_split": "test", "training_split": "test"},
    ],
)
def test_without_a_fewshot_split_examples_are_search_documents(root: Path, config: dict[str, Any]) -> None:
    write_task(root / "tasks", "shots", "choice", docs=DOCS, num_fewshot=3, **config)
    allowed = {doc["question"] for doc, part in zip(DOCS, PARTS, strict=True) if part == "search"}
    for doc, found in drawn(root).items():
        assert len(set(found)) == 3
        assert set(found) <= allowed - {DOCS[doc]["question"]}
    assert any("prompts differ from those of a plain lm-eval run" in w for w in load(root, ["shots"]).warnings)


def test_examples_do_not_depend_on_order_or_limit(root: Path) -> None:
    write_task(root / "tasks", "shots", "choice", docs=DOCS, num_fewshot=3)
    before = {DOCS[doc]["question"]: found for doc, found in drawn(root).items()}
    turned = list(reversed(DOCS))
    write_task(root / "tasks", "shots", "choice", docs=turned, num_fewshot=3)
    after = {turned[doc]["question"]: found for doc, found in drawn(root).items()}
    assert after == before
    limited = load(root, [{"name": "shots", "limit": 120}])
    for doc, found in suite_prompts(limited, "shots").items():
        assert examples(found[0][0]) == before[turned[doc]["question"]]
    assert len({tuple(found) for found in before.values()}) > 100  # not the same three for all


def test_held_out_documents_are_removed_from_a_fewshot_split(root: Path) -> None:
    held_out = [doc for doc, part in zip(DOCS, PARTS, strict=True) if part == "report"][:5]
    write_task(root / "tasks", "shots", "choice", docs=DOCS, train=[*held_out, *documents(8, seed=3)], num_fewshot=4)
    forbidden = {doc["question"] for doc in held_out}
    assert all(not forbidden & set(found) for found in drawn(root).values())


def test_a_document_of_two_tasks_is_in_the_same_part(root: Path) -> None:
    # The second task preprocesses its documents, so only the raw rows show that they are the same.
    write_task(root / "tasks", "plain", "choice", docs=DOCS)
    (root / "tasks" / "prepare.py").write_text(
        "def prepare(rows):\n    return rows.map(lambda doc: {'question': 'please: ' + doc['question'], 'more': 1})\n"
    )
    write_task(root / "tasks", "prepared", "choice", docs=DOCS)
    path = root / "tasks" / "prepared.yaml"
    path.write_text(path.read_text() + "process_docs: !function prepare.prepare\n")
    suite = load(root, ["plain", "prepared"])
    assert "please: " in suite_prompts(suite, "prepared")[0][0][0]
    for part in ("search", "select", "report"):
        assert suite.content.document_ids("plain", part) == suite.content.document_ids("prepared", part)


def test_too_few_documents_for_the_examples(root: Path) -> None:
    write_task(root / "tasks", "shots", "choice", docs=DOCS, train=DOCS[:3], num_fewshot=3)
    with pytest.raises(UserError, match=r"shots needs 3 few-shot examples, but only \d documents remain"):
        load(root, ["shots"])
    few = [DOCS[0]] * 6 + documents(60, seed=9)
    write_task(root / "tasks", "shots", "choice", docs=few, num_fewshot=50)
    with pytest.raises(UserError, match=r"needs 50 few-shot examples besides the question, but only \d+ different"):
        load(root, ["shots"])


@pytest.mark.parametrize("sampler", ["default", "first_n"])
def test_a_separate_pool_may_hold_exactly_as_many_as_there_are_shots(root: Path, sampler: str) -> None:
    # As MMLU's dev split of 5 with 5 shots does.
    dev = documents(5, seed=7)
    config = {"num_fewshot": 5, "fewshot_config": {"sampler": sampler}}
    write_task(root / "tasks", "shots", "choice", docs=DOCS, train=dev, **config)
    assert all(sorted(found) == sorted(doc["question"] for doc in dev) for found in drawn(root).values())
    assert not any("few-shot" in warning for warning in load(root, ["shots"]).warnings)


def test_samples_in_the_configuration_may_be_exactly_as_many_as_there_are_shots(root: Path) -> None:
    # As gsm8k_cot's 8 examples with 8 shots.
    examples = documents(3, seed=7)
    config = {"num_fewshot": 3, "fewshot_config": {"sampler": "first_n", "samples": examples}}
    write_task(root / "tasks", "shots", "choice", docs=DOCS, **config)
    assert all(found == [doc["question"] for doc in examples] for found in drawn(root).values())


@pytest.mark.parametrize("sampler", ["default", "first_n"])
def test_exactly_as_many_as_there_are_shots_may_remain(root: Path, sampler: str) -> None:
    held_out = next(doc for doc, part in zip(DOCS, PARTS, strict=True) if part == "report")
    searched = next(doc for doc, part in zip(DOCS, PARTS, strict=True) if part == "search")
    dev = [held_out, searched, *documents(2, seed=7)]
    config = {"num_fewshot": 3, "fewshot_config": {"sampler": sampler}}
    write_task(root / "tasks", "shots", "choice", docs=DOCS, train=dev, **config)
    assert all(sorted(found) == sorted(doc["question"] for doc in dev[1:]) for found in drawn(root).values())


def test_the_split_ignores_task_order_seed_and_key_order(root: Path) -> None:
    write_task(root / "tasks", "shots", "choice", docs=DOCS)
    suite = load(root, ["shots"], seed=1)
    assert suite.content.leaves["shots"].items.digests == tuple(
        digest(json.loads(json.dumps(dict(reversed(doc.items()))))) for doc in DOCS
    )
    assert suite.content.document_ids("shots", "select") == load(root, ["shots"], seed=2).content.document_ids(
        "shots", "select"
    )

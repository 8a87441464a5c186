"""Python objectives: loading, calling, failing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tiny_tasks import documents, load, make_model, score_part, write_task

from mergesmith.errors import UserError
from mergesmith.evaluators import ScoringError, entry_score

SOURCE = """
calls = []


def whole(model, tokenizer, split):
    calls.append(split)
    return 0.25


def items(model, tokenizer, split):
    return {f"{split}-{len(tokenizer)}-{i}": i / 4 for i in (2, 1, 0)}


def broken(model, tokenizer, split):
    raise KeyError("gone")


def nan(model, tokenizer, split):
    return {"a": 1.0, "b": float("nan")}


def text(model, tokenizer, split):
    return "good"


def empty(model, tokenizer, split):
    return {}
"""


@pytest.fixture
def folder(root: Path) -> Path:
    (root / "own.py").write_text(SOURCE)
    (root / "package_of_mine").mkdir()
    (root / "package_of_mine" / "objectives.py").write_text(SOURCE)
    return root


def objective(function: str, name: str = "tone", **settings: Any) -> dict[str, Any]:
    return {"name": name, "python": f"./own.py:{function}", **settings}


def test_an_objective_alone_makes_one_block_per_part(folder: Path) -> None:
    suite = load(folder, [objective("whole", higher_is_better=False)], task_path=[])
    (entry,) = suite.entries
    assert (entry.python, entry.sign, entry.bounded, len(suite.blocks("search"))) == (True, -1, False, 1)
    score = entry_score(entry, score_part(suite, make_model(), "search"))
    assert (score.value, score.n) == (0.25, 1)
    assert math.isnan(score.stderr)
    assert suite.counts("search") == {"tone": 0}
    assert len(suite.digests()["tone"]) == 64


def test_an_objective_is_called_once_per_part_in_the_last_block(folder: Path) -> None:
    write_task(folder / "tasks", "choice", "choice", docs=documents(150, seed=1))
    suite = load(folder, ["choice", objective("whole")], block_items=20)
    calls = suite.content.objectives["tone"].function.__globals__["calls"]
    blocks = suite.blocks("search")
    assert [("tone" in block.items) for block in blocks] == [False] * (len(blocks) - 1) + [True]
    scores = score_part(suite, make_model(), "search")
    assert calls == ["search"]
    assert scores.items["tone"].ids == ("whole",)


def test_items_of_a_dictionary(folder: Path) -> None:
    suite = load(folder, [{"name": "tone", "python": "package_of_mine.objectives:items"}], task_path=[])
    scores = score_part(suite, make_model(), "select")
    size = len(suite.content.lm.tokenizer)
    assert scores.items["tone"].ids == tuple(f"select-{size}-{i}" for i in range(3))
    assert scores.items["tone"].values.tolist() == [0.0, 0.25, 0.5]
    assert entry_score(suite.entries[0], scores).n == 3


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("broken", r"raised KeyError: 'gone'"),
        ("nan", r"item 'b' is nan"),
        ("text", r"must return a float or a mapping .* 'good'"),
        ("empty", r"returned no items"),
    ],
)
def test_failures_of_an_objective_are_scoring_errors(folder: Path, function: str, reason: str) -> None:
    suite = load(folder, [objective(function)], task_path=[])
    with pytest.raises(ScoringError, match=f"objective 'tone' \\(search\\).*{reason}"):
        score_part(suite, make_model(), "search")


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("./own.py:wole", "unknown function 'wole'. Did you mean 'whole'"),
        ("./owm.py:whole", "there is no file"),
        ("own.py", "must be './file.py:function' or 'package.module:function'"),
        ("no_such_package.x:f", "module 'no_such_package.x' cannot be imported"),
        ("./bad.py:f", "fails on import: ZeroDivisionError"),
    ],
)
def test_references_that_cannot_be_loaded(folder: Path, reference: str, reason: str) -> None:
    (folder / "bad.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match=reason):
        load(folder, [{"name": "tone", "python": reference}], task_path=[])

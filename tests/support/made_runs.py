"""Run folders written without a search, and records of trials in a space of 60 dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mergesmith.evaluators import ItemScores, Score, Scores
from mergesmith.optimizer.config import RunConfig, parse_config
from mergesmith.optimizer.run_folder.lifecycle import create_run
from mergesmith.optimizer.run_folder.run_folder import RunFolder
from mergesmith.optimizer.run_folder.trial import Trial
from mergesmith.optimizer.samplers.random import RandomSampler
from mergesmith.search_spaces import MergeIngredients, SearchSpace, SpaceConfig

SUBJECT = MergeIngredients("./zoo/base", ("./zoo/a", "./zoo/b", "./zoo/c"), "bfloat16")
SPACE = SearchSpace(
    SpaceConfig.model_validate(
        {"methods": ["task_arithmetic"], "knots": 5, "filters": ["self_attn", "mlp", "embed"]},
    ),
    SUBJECT,
)
TASKS = ("arc_challenge", "gsm8k", "hellaswag")
RANDOM = RandomSampler(SPACE, 0)


def config(**search: Any) -> RunConfig:
    document = {"base_model": "./base", "models": ["./a"], "tasks": ["mc"], "search": search}
    return parse_config(document, where="search.yaml")


def make_run(folder: Path, **search: Any) -> RunFolder:
    return create_run(folder, config(**search), folder.parent)


def make_trial(number: int, **changes: Any) -> Trial:
    """Return a complete trial of the space's method, which depends only on its number."""
    params = RANDOM.ask(number, ()).params
    value = float(np.random.default_rng(number).random())
    fields = {"state": "complete", "params": params, "value": value, "items": 2000, "after": number}
    fields |= {"scores": {task: Score(value, 0.0123456789, 1000) for task in TASKS}}
    fields |= {"merge_seconds": 1.2345, "score_seconds": 23.4567}
    return Trial(number, SPACE.recipe(params), **(fields | changes))


def make_scores(number: int, *, items: int = 2000, binary: bool = True) -> Scores:
    """Return the scores of a trial on `items` items of three tasks, the same items for every trial."""
    rng, places = np.random.default_rng(number), np.random.default_rng(0)
    found = {}
    for task in TASKS:
        n = items // len(TASKS) + (items % len(TASKS) if task == TASKS[0] else 0)
        ids = tuple(map(str, sorted(places.choice(10 * n, n, replace=False).tolist())))
        values = (rng.random(n) < 0.6).astype(np.float64) if binary else rng.normal(size=n)
        found[task] = ItemScores(ids, values)
    return Scores("search", found)

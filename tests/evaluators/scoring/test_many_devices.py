"""A model whose layers lie on several devices is scored as on one: the same numbers by every scorer.

The devices are pretended (`pretend_devices.py`): they refuse tensors of one another as GPUs do, and compute as the CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from families import family_config
from pretend_devices import DEVICES, pretended_devices
from tiny_tasks import documents, graded, load, write_task
from transformers import AutoModelForCausalLM

from mergesmith.evaluators import Block, ScoringPlan, Suite
from mergesmith.evaluators.scoring.scorers import Scorer
from mergesmith.merge_ops.live.device_map import device_map, spread

ITEMS = 5
SHOTS = {"train": documents(12, seed=9), "num_fewshot": 2, "fewshot_config": {"sampler": "first_n"}}
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "choice": ("choice", SHOTS),
    "rolling": ("rolling", {}),
    "generation": ("generation", graded(**SHOTS)),
}
PLANS = {
    "hf": {name: Scorer("hf") for name in TASKS},
    "fast": {"choice": Scorer("packed"), "rolling": Scorer("rows"), "generation": Scorer("loop")},
    "prefix": {"choice": Scorer("packed", True), "rolling": Scorer("rows"), "generation": Scorer("loop", True)},
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    root = tmp_path_factory.mktemp("devices")
    for i, (name, (kind, overrides)) in enumerate(TASKS.items()):
        write_task(root / "tasks", name, kind, docs=documents(110, seed=i), **overrides)
    return load(root, list(TASKS))


def new_model(family: str) -> Any:
    torch.manual_seed(1)
    config = family_config(family, vocab_size=64, initializer_range=0.2, tie_word_embeddings=family == "qwen3")
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval().requires_grad_(False)


def scored(suite: Suite, model: Any, plan: str) -> tuple[dict[str, np.ndarray], list[Any]]:
    """Values per item and answers per request."""
    suite.use(ScoringPlan(PLANS[plan], token_budget=400))
    items = suite.score(model, Block("search", 0, dict.fromkeys(TASKS, tuple(range(ITEMS))))).items
    leaves = suite.content.leaves
    answers = [r.instance.resps[0] for name in TASKS for i in range(ITEMS) for r in leaves[name].requests[i]]
    return {name: found.values for name, found in items.items()}, answers


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_scores_equal_those_of_one_device(suite: Suite, family: str) -> None:
    with pretended_devices():
        one = new_model(family).to(DEVICES[0])
        two = new_model(family)
        two = spread(two, device_map(two, DEVICES[:2], (1, 1)))
        assert {tensor.device for tensor in two.state_dict().values()} == set(DEVICES[:2])
        assert two.device == one.device == DEVICES[0]
        for plan in PLANS:
            values, answers = scored(suite, one, plan)
            found, told = scored(suite, two, plan)
            assert told == answers, plan
            assert all(np.array_equal(found[name], values[name]) for name in TASKS), plan
            assert len(set(answers)) > ITEMS


def test_scorers_are_checked_on_several_devices(suite: Suite) -> None:
    with pretended_devices():
        model = new_model("llama")
        model = spread(model, device_map(model, DEVICES, (1, 1, 1)))
        report = suite.check_scorers(lambda: [("the model", lambda: model)])
    assert not report.unchecked
    assert {name: str(scorer) for name, scorer in report.plan.scorers.items()} == {
        "choice": "packed+prefix",
        "rolling": "rows",
        "generation": "loop+prefix",
    }

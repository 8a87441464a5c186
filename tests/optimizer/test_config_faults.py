"""Faults of a search.yaml in the words of its user: keys as they are written, tasks by name, each fault once."""

from __future__ import annotations

import pytest
import yaml

from mergesmith.errors import UserError
from mergesmith.optimizer.config import parse_config

FORMS = "give a number, [low, high], {range: [low, high], log: true} or {choices: [...]}"
FAULTS = {
    "space: {methods: {ties: {density: 0.1-0.9}}}": [f"space.methods.ties.density: {FORMS}, but it is '0.1-0.9'"],
    "space: {methods: {ties: {weight: [0.1, 0.5, 0.9]}}}": [
        f"space.methods.ties.weight.range: {FORMS}, but it is [0.1, 0.5, 0.9]"
    ],
    "space: {methods: {linear: {weight: {low: 0}}}}": [
        f"space.methods.linear.weight.low: unknown key 'low'; {FORMS}",
    ],
    "space: {methods: {ties: {density: [0.9, 0.1]}}}": [
        "space.methods.ties.density: low < high must hold, but the range is [0.9, 0.1]"
    ],
    "tasks: [mc, {name: gsm8k, max_drop: 5%}]": ["tasks.gsm8k.max_drop: must be a number, but is '5%'"],
    "tasks: [{name: own, python: './a.py:f', limit: 3}]": [
        "tasks.own: a Python objective has no limit: remove it, or remove 'python'"
    ],
    "tasks: []": ["tasks: must have at least one entry"],
    "models: [3]": ["models.0: must be text, but is 3"],
    "search: {trials: many}": ["search.trials: must be a whole number, but is 'many'"],
    "search: {racing: {alpha: 5}}": ["search.racing.alpha: must be below 1, but is 5"],
    "scoring: {scorer: vllm}": [
        "scoring.scorer: must be 'auto', 'packed', 'rows', 'graphs' or 'hf', but is 'vllm'",
    ],
    "{bank: gpu, space: {knots: 0}}": [
        "space.knots: must be at least 1, but is 0",
        "bank: must be 'auto', 'device' or 'host', but is 'gpu'",
    ],
}


@pytest.mark.parametrize("text", FAULTS)
def test_messages(text: str) -> None:
    valid = {"base_model": "./base", "models": ["./a"], "tasks": ["mc"]}
    with pytest.raises(UserError) as caught:
        parse_config({**valid, **yaml.safe_load(text)}, where="search.yaml")
    assert list(caught.value.faults) == [f"search.yaml: {fault}" for fault in FAULTS[text]]

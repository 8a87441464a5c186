"""The JSON schema of search.yaml agrees with the loader on every configuration in the manual, and on short forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from checkout import ROOT
from command_line import Command
from tiny_run import write_search

from mergesmith.errors import UserError
from mergesmith.optimizer.config import dump_config, load_config, parse_config
from mergesmith.optimizer.start.schema import search_schema

REQUIRED = {"base_model": "./base", "models": ["./a", "./b"], "tasks": ["gsm8k"]}
SCHEMA = search_schema()
VALID = [
    {"models": ["./a", {"model": "./b"}, {"model": {"path": "x/y", "revision": "v2"}}]},
    {"base_model": {"model": {"model": {"path": "x/y"}, "lora": "./adapter"}}},
    {"tasks": ["a", {"name": "b", "limit": 0.1}, {"name": "c", "limit": 20, "metric": "acc,none"}]},
    {"limit": 100, "num_fewshot": 3},
    {"limit": 0.5},
    {"task_path": "tasks"},
    {"task_path": ["tasks", "more"]},
    {"space": {"methods": ["ties"]}},
    {"space": {"methods": {"ties": None, "slerp": {"t": [0, 1]}}}},
    {"space": {"methods": {"ties": {"density": 0.5, "weight": {"range": [0.1, 1], "log": True}, "rescale": False}}}},
    {"space": {"methods": {"ties": {"models[./a].weight": 0.3, "normalize": {"choices": [True, False]}}}}},
    {"space": {"methods": {"ties": {"density": {"share": True}, "weight": {"range": [0, 1], "steps": 2}}}}},
    {
        "space": {
            "methods": {"ties": {"knots": 3, "filters": ["re:q_proj|k_proj"]}, "slerp": {"models": ["./a", "./b"]}}
        }
    },
    {"space": {"steps": 4, "methods": ["ties"]}},
    {"search": {"racing": False, "time_limit": "8h"}},
    {"search": {"racing": "off", "time_limit": 90}},
    {"search": {"racing": {"rule": False}}},
    {"search": {"racing": {"alpha": 0.2}, "stages": ["line", "soup"]}},
    {"workers": {"grace": "30s", "trial_timeout": "5m", "pool": "ray", "count": None}},
    {"chat": {"apply_template": True, "date": "2026-01-31"}},
]
WRONG = [
    {"modles": []},
    {"models": []},
    {"models": [{"model": "./a", "weight": 1}]},
    {"tasks": []},
    {"tasks": [{"task": "b"}]},
    {"tasks": [{"name": "b", "weight": -1}]},
    {"tasks": [{"name": "b", "limit": 1.5}]},
    {"limit": 0},
    {"space": {"methods": []}},
    {"space": {"methods": ["tis"]}},
    {"space": {"methods": {"ties": {"densty": 0.5}}}},
    {"space": {"methods": {"ties": {"models[./a].densty": 0.5}}}},
    {"space": {"methods": {"ties": {"density": [0.1, 0.5, 0.9]}}}},
    {"space": {"methods": {"ties": {"density": {"low": 0.1}}}}},
    {"space": {"knots": 0}},
    {"space": {"methods": {"ties": {"knots": 0}}}},
    {"space": {"methods": {"ties": {"models": []}}}},
    {"space": {"methods": {"ties": {"density": {"share": "yes please"}}}}},
    {"search": {"sampler": "cma-es"}},
    {"search": {"time_limit": "2 hours"}},
    {"search": {"racing": "never"}},
    {"search": {"racing": {"alpha": 5}}},
    {"workers": {"pool": "slurm"}},
    {"version": 2},
]


def errors(document: dict[str, Any]) -> list[str]:
    plain = json.loads(json.dumps(document, default=str))  # YAML reads a date as one
    return [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(plain)]


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("changes", VALID, ids=str)
def test_what_the_loader_accepts_is_valid(changes: dict[str, Any]) -> None:
    config = parse_config({**REQUIRED, **changes}, where="search.yaml")
    assert errors({**REQUIRED, **changes}) == []
    assert errors(yaml.safe_load(dump_config(config))) == []


@pytest.mark.parametrize("changes", WRONG, ids=str)
def test_what_is_wrong_is_not(changes: dict[str, Any]) -> None:
    assert errors({**REQUIRED, **changes}) != []
    with pytest.raises(UserError):
        checked = parse_config({**REQUIRED, **changes}, where="search.yaml")
        _check_space(checked)


def _check_space(config: Any) -> None:
    """Methods and parameters are checked when the space is set up."""
    from mergesmith.search_spaces import MergeIngredients, SearchSpace

    SearchSpace(config.space, MergeIngredients(config.base_model, config.models, "float32"))


def test_every_example_is_valid(tmp_path: Path) -> None:
    """The manual's configurations are checked by tests/test_docs.py."""
    paths = [*(ROOT / "examples").rglob("search*.yaml"), write_search(tmp_path)]
    for path in paths:
        assert errors(yaml.safe_load(path.read_text())) == [], path
    assert len(paths) >= 2
    assert errors(yaml.safe_load(dump_config(load_config(paths[-1])))) == []  # the copy in a run's folder


def test_the_command_prints_it(command: Command) -> None:
    outcome = command("schema")
    assert outcome.code == 0
    assert json.loads(outcome.out) == SCHEMA

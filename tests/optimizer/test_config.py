"""search.yaml: what all tasks share, and the ways to name a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Command
from tiny_run import write_search

from mergesmith.errors import UserError
from mergesmith.optimizer.config import RunConfig, dump_config, load_config, parse_config
from mergesmith.optimizer.run_folder.run_folder import RunFolder

REQUIRED = {"base_model": "./base", "models": ["./a"], "tasks": ["mc"]}


def parse(**changes: Any) -> RunConfig:
    return parse_config({**REQUIRED, **changes}, where="search.yaml")


def test_limit_and_examples_of_all_tasks() -> None:
    tasks = ["mc", {"name": "gen", "limit": 10, "num_fewshot": 0}, {"name": "mine", "python": "f.py:f"}]
    config = parse(tasks=tasks, limit=0.5, num_fewshot=3)
    found = [(task.name, task.limit, task.num_fewshot) for task in config.scored_tasks]
    assert found == [("mc", 0.5, 3), ("gen", 10, 0), ("mine", None, None)]


def test_a_search_with_a_limit_for_all_tasks(run_folder: Path, command: Command) -> None:
    search = write_search(run_folder, limit=0.9, tasks=("mc",), search={"sampler": "random", "trials": 0})
    assert command("search", search).code == 0
    (scores,) = {trial.scores["mc"].n for trial in RunFolder.open(run_folder / "run").trials()}
    assert 54 <= scores <= 66  # about 60 % of 99 of the 110 items
    assert load_config(run_folder / "run" / "search.yaml").limit == 0.9


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ({"model": "./a"}, "./a"),
        ({"model": {"path": "x/y", "revision": "v2"}}, "x/y@v2"),
        ({"model": {"model": {"path": "x/y"}, "lora": {"path": "./adapter"}}}, "x/y+./adapter"),
        (Path("some/folder"), "some/folder"),
    ],
)
def test_models_in_mergekits_mapping_form(model: Any, text: str) -> None:
    config = parse(models=["./b", model])
    assert config.models == ("./b", text)
    assert parse(base_model=model, models=["./b"]).base_model == text
    assert parse_config(yaml.safe_load(dump_config(config)), where="copy") == config


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"model": "./a", "parameters": {"weight": 0.5}}, 'models[./a].weight": 0.5'),
        ({"path": "./a"}, "models.0: unknown key 'path'"),
        ({"model": {"model": "./a"}, "name": "x"}, "models.0: write the model as {'model': './a'}, without name"),
    ],
)
def test_faults_of_a_models_mapping(model: Any, message: str) -> None:
    with pytest.raises(UserError) as fault:
        parse(models=[model])
    assert message in str(fault.value)

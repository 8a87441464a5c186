"""`mergesmith import`: configurations of mergekit-evolve as searches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Command
from tiny_run import write_search

from mergesmith.errors import UserError
from mergesmith.optimizer.config import load_config
from mergesmith.optimizer.start.evolve import Imported

GENOME = {"models": ["./a", "./b"], "merge_method": "ties", "base_model": "./base"}


def imported(folder: Path = Path("nowhere"), *, tasks: Any = ("mc",), **genome: Any) -> Imported:
    top = {key: genome.pop(key) for key in ("limit", "num_fewshot", "shuffle", "random_init") if key in genome}
    return Imported({"genome": {**GENOME, **genome}, "tasks": list(tasks), **top}, "evolve.yaml", folder)


def with_layers(folder: Path, layers: int) -> Path:
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps({"num_hidden_layers": layers}))
    return folder


def test_models_and_defaults() -> None:
    found = imported(models=["./a", {"model": {"path": "x/y", "revision": "v2"}}, "./base"], tokenizer_source="union")
    document = found.document
    assert (document["base_model"], document["models"]) == ("./base", ["./a", "x/y@v2"])
    assert document["tokenizer_source"] == "union"
    assert document["space"] == {"methods": {"ties": {"normalize": True, "lambda": 1}}}
    assert document["chat"] == {"apply_template": True, "fewshot_as_multiturn": True}
    assert any("./base was also one of the models" in note for note in found.notes)


@pytest.mark.parametrize(
    ("method", "normalize", "expected"),
    [
        ("ties", None, {"normalize": True, "lambda": 1}),
        ("ties", False, {"normalize": False}),
        ("linear", None, {"normalize": True}),
        ("task_arithmetic", None, {"normalize": False}),
        ("task_arithmetic", True, {"normalize": True, "lambda": 1}),
        ("slerp", None, {}),
    ],
)
def test_normalize_never_searches_lambda(method: str, normalize: bool | None, expected: dict[str, Any]) -> None:
    found = imported(merge_method=method, normalize=normalize)
    assert found.document["space"]["methods"] == {method: expected}


@pytest.mark.parametrize(("smooth", "key"), [(False, "steps"), (True, "knots")])
def test_groups_of_layers(tmp_path: Path, smooth: bool, key: str) -> None:
    found = imported(with_layers(tmp_path, 32), layer_granularity=8, smooth=smooth, filters=["mlp", "self_attn"])
    assert found.document["space"][key] == 4
    assert found.document["space"]["filters"] == ["mlp", "self_attn"]
    unknown = imported(layer_granularity=8, smooth=smooth)
    assert key not in unknown.document["space"]
    assert any(f"add {key}: LAYERS / 8 under space" in note for note in unknown.notes)


def test_tasks() -> None:
    tasks = ["arc_easy", {"name": "gsm8k", "metric": "exact_match,strict-match", "weight": 2}]
    tasks.append({"name": "wikitext", "metric": "word_perplexity,none", "weight": -0.5})
    found = imported(tasks=tasks, limit=100, num_fewshot=3)
    assert found.document["tasks"] == [
        {"name": "arc_easy", "metric": "acc,none"},
        {"name": "gsm8k", "metric": "exact_match,strict-match", "weight": 2},
        {"name": "wikitext", "metric": "word_perplexity,none", "weight": 0.5, "higher_is_better": False},
    ]
    assert (found.document["limit"], found.document["num_fewshot"]) == (100, 3)
    assert any("weight of wikitext was -0.5" in note for note in found.notes)


def test_what_has_no_counterpart_is_listed() -> None:
    notes = imported(base_model=None, shuffle=True, random_init=True, allow_negative_weights=True).notes
    for key in ("base_model: there was none", "shuffle:", "random_init:", "allow_negative_weights:", "--max-fevals"):
        assert any(key in note for note in notes), key


def test_faults_are_listed() -> None:
    with pytest.raises(UserError) as fault:
        imported(merge_methd="ties", tasks=[{"task": "mc"}, {"name": "mc", "limit": 3}], models=[])
    for part in ("genome.merge_methd: unknown key", "genome.models: is missing", "tasks.0: must be", "tasks.1.limit:"):
        assert part in str(fault.value)


def test_an_imported_search_runs(run_folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    write_search(run_folder).unlink()  # keeps the tasks
    monkeypatch.chdir(run_folder)
    genome = {**GENOME, "layer_granularity": 1, "filters": ["mlp"], "allow_negative_weights": True}
    evolve = {"genome": genome, "tasks": [{"name": "mc", "metric": "acc,none"}], "apply_chat_template": False}
    Path("evolve.yaml").write_text(yaml.safe_dump(evolve))
    refused = command("search", "evolve.yaml")
    assert refused.code == 2 and "`mergesmith import evolve.yaml -o search.yaml`" in refused.err
    printed = command("import", "evolve.yaml")
    assert printed.code == 0 and yaml.safe_load(printed.out)["space"]["steps"] == 2
    outcome = command("import", "evolve.yaml", "-o", "search.yaml")
    assert outcome.code == 0, outcome.err
    assert "What differs from evolve.yaml:" in outcome.out and "--max-fevals N is search.trials" in outcome.out
    assert Path("search.yaml").read_text().startswith("# yaml-language-server: $schema=./search.schema.json")
    assert load_config(Path("search.yaml")).space.methods["ties"].parameters["weight"].range == (-1.0, 1.0)
    text = Path("search.yaml").read_text().replace("tasks:", "task_path: tasks\nsearch: {trials: 1}\ntasks:", 1)
    Path("search.yaml").write_text(text)
    assert command("search", "search.yaml").code == 0
    assert "exists" in command("import", "evolve.yaml", "-o", "search.yaml").err
    assert "no configuration of mergekit-evolve" in command("import", "search.yaml").err

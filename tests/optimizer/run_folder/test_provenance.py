"""What a run refuses to mix up, and what it survives."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from command_line import Command
from tiny_models import write_model
from tiny_run import write_search

from mergesmith.merge_ops import Checkpoint, read_recipe
from mergesmith.optimizer.run_folder.provenance import lasting_names
from mergesmith.optimizer.samplers import Observation, Proposal, make_sampler
from mergesmith.search_spaces import METHOD, MergeIngredients, SearchSpace, SpaceConfig


@pytest.fixture
def search(run_folder: Path) -> Path:
    return write_search(run_folder, search={"trials": 2}, tasks=("mc",))


def test_resume_refuses_other_weights(search: Path, run_folder: Path, command: Command) -> None:
    assert command("search", search, "--trials", 1).code == 0
    (run_folder / "a").unlink()
    write_model(run_folder / "a", "llama", layers=2, seed=77)
    outcome = command("search", search, "--resume")
    assert outcome.code == 2
    assert "model './a': has changed" in outcome.err


def test_resume_refuses_other_items(search: Path, run_folder: Path, command: Command) -> None:
    assert command("search", search, "--trials", 1).code == 0
    data = run_folder / "tasks" / "mc.jsonl"
    data.write_text("".join(reversed(data.read_text().splitlines(keepends=True))))
    outcome = command("search", search, "--resume")
    assert outcome.code == 2
    assert "task 'mc': has changed" in outcome.err


def test_models_beside_search_yaml_come_first(
    search: Path,
    run_folder: Path,
    command: Command,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("base", "a", "b", "c"):
        write_model(elsewhere / name, "llama", layers=3, seed=5)
    monkeypatch.chdir(elsewhere)
    assert command("search", search).code == 0
    best = read_recipe(run_folder / "run" / "best.yaml")
    assert all(str(run_folder.parent.parent) in ref and "elsewhere" not in ref for ref in best.references())


def test_any_error_of_a_candidate_is_its_failure(run_folder: Path, command: Command) -> None:
    (run_folder / "objectives.py").write_text(
        "calls = []\n"
        "def odd(model, tokenizer, split):\n"
        "    calls.append(split)\n"
        "    if len(calls) == 11:\n"
        "        return {'other': 1.0}\n"
        "    return {f'i{k}': float(k % 2) for k in range(20)}\n"
    )
    path = write_search(run_folder, tasks=({"name": "odd", "python": "./objectives.py:odd"},))
    outcome = command("search", path)
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in (run_folder / "run" / "trials.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines if line["state"] == "failed"] == [
        11
    ]  # one baseline repeats another's weights
    assert "other items" in lines[11]["error"]


def test_perplexity_beyond_floats_is_a_failed_trial(run_folder: Path, command: Command) -> None:
    space = {"methods": {"task_arithmetic": {"weight": [4000, 9000]}}}
    path = write_search(run_folder, tasks=("mc", "ppl"), space=space)
    outcome = command("search", path)
    assert "Traceback" not in outcome.err
    lines = [json.loads(line) for line in (run_folder / "run" / "trials.jsonl").read_text().splitlines()]
    assert len(lines) == 14
    assert all(line["state"] == "failed" or line["scores"]["ppl"]["value"] < 1e300 for line in lines)


def test_files_can_be_read_by_others(search: Path, run_folder: Path, command: Command) -> None:
    assert command("search", search).code == 0
    plain = run_folder / "plain"
    plain.touch()
    for name in ("best.yaml", "verdict.json", "search.yaml", "items/0000.npz"):
        assert stat.S_IMODE((run_folder / "run" / name).stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_lines_are_valid_json(run_folder: Path, command: Command) -> None:
    (run_folder / "objectives.py").write_text("def whole(model, tokenizer, split):\n    return 0.5\n")
    path = write_search(run_folder, tasks=({"name": "whole", "python": "./objectives.py:whole"},))
    outcome = command("search", path)
    assert outcome.code == 0, outcome.err
    assert "there is no interval" in outcome.out

    def refuse(constant: str) -> float:
        raise ValueError(constant)

    for line in (run_folder / "run" / "trials.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    json.loads((run_folder / "run" / "verdict.json").read_text(), parse_constant=refuse)


def test_beginning_cut_short_is_no_run(search: Path, run_folder: Path, command: Command) -> None:
    left = run_folder / "run"
    (left / "items").mkdir(parents=True)
    (left / "lock").touch()
    (left / "environment.json").write_text("{}")
    assert command("search", search).code == 0


def test_a_runs_own_search_yaml_works(search: Path, run_folder: Path, command: Command) -> None:
    assert command("search", search).code == 0
    own = run_folder / "run" / "search.yaml"
    assert command("eval", run_folder / "a", "--config", own).code == 0
    assert command("plan", own).code == 0


def test_edited_recipe_loses_its_record(search: Path, run_folder: Path, command: Command) -> None:
    assert command("search", search).code == 0
    best = run_folder / "run" / "best.yaml"
    outcome = command("merge", best, run_folder / "out", "--seed", 5)
    assert outcome.code == 0
    assert "its record was dropped" in outcome.out
    assert "weights_digest:" not in (run_folder / "out" / "mergekit_config.yml").read_text()


def test_eval_refuses_another_tokenizer(search: Path, run_folder: Path, models: Path, command: Command) -> None:
    write_model(run_folder / "odd", "llama", layers=2, seed=1)
    tokenizer = run_folder / "odd" / "tokenizer.json"
    document = json.loads(tokenizer.read_text())
    vocab = document["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    tokenizer.write_text(json.dumps(document))
    outcome = command("eval", run_folder / "odd", "--config", search)
    assert outcome.code == 2
    assert "tokenizer" in outcome.err


def test_unknown_device_and_time(search: Path, run_folder: Path, command: Command) -> None:
    assert command("search", search, "--time-limit", "1m").code == 0
    best = run_folder / "run" / "best.yaml"
    for outcome, part in (
        (command("merge", best, run_folder / "out", "--device", "bogus"), "--device: 'bogus' cannot be used"),
        (command("search", search, "--time-limit", "soon", "--resume"), "must look like 90s"),
    ):
        assert outcome.code == 2
        assert part in outcome.err


def test_cmaes_leaves_an_arm_that_fails() -> None:
    space = SearchSpace(
        SpaceConfig.model_validate({"methods": ["ties", "task_arithmetic"]}),
        MergeIngredients("b", ("x", "y"), "float32"),
    )
    sampler = make_sampler("cmaes", space, 0)
    asked = []
    for index in range(60):
        proposal = sampler.ask(index, ())
        assert isinstance(proposal, Proposal)
        method = proposal.params[METHOD]
        asked.append(method)
        sampler.tell(Observation(proposal, None if method == "ties" else 0.5))
    assert 10 < asked.count("ties") < 40


def test_hub_models_are_pinned_to_their_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub cache as huggingface_hub lays it out: two commits, one of them on a branch."""
    from huggingface_hub import constants

    repository = tmp_path / "models--team--model"
    commits = {"main": "a" * 40, "v1": "b" * 40}
    (repository / "refs").mkdir(parents=True)
    for seed, (branch, commit) in enumerate(commits.items()):
        (repository / "refs" / branch).write_text(commit)
        write_model(repository / "snapshots" / commit, "llama", layers=2, seed=seed)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    newest, older = Checkpoint("team/model"), Checkpoint("team/model@v1")
    assert newest.folder.name == commits["main"]
    assert older.folder.name == commits["v1"]
    assert newest.sampled_digest != older.sampled_digest

    from mergesmith.merge_ops import ModelBank, parse_recipe

    recipe = parse_recipe(
        "{merge_method: linear, models: [{model: team/model, parameters: {weight: 1}},"
        " {model: team/model@v1, parameters: {weight: 1}}]}"
    )
    names = lasting_names(recipe, ModelBank(recipe.references()))
    assert names == {"team/model": f"team/model@{'a' * 40}", "team/model@v1": f"team/model@{'b' * 40}"}

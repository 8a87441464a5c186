"""Whole searches on tiny models: what they leave behind, resuming, failing, limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command
from tiny_models import ALPHABET, write_model
from tiny_run import write_search

from mergesmith.merge_ops import read_recipe
from mergesmith.optimizer.commands.inputs.overrides import Overrides
from mergesmith.optimizer.commands.search import run_search
from mergesmith.optimizer.config import load_config
from mergesmith.optimizer.run_folder.run_folder import RunFolder
from mergesmith.optimizer.samplers import SAMPLERS
from mergesmith.optimizer.session.options import Options
from mergesmith.optimizer.stop_signals import StoppedError
from mergesmith.optimizer.terminal.console import make_console

BASELINES = 10  # base, three parents, uniform, two task arithmetics, three slerps


def lines(run: Path) -> list[dict[str, Any]]:
    """The trials' lines without what clocks put in."""
    found = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    for line in found:
        del line["seconds"]
    return found


def items_equal(first: Path, second: Path) -> bool:
    """Whether two runs have the same items of the search part."""
    names, others = (sorted(p.name for p in (run / "items").glob("????.npz")) for run in (first, second))
    if names != others:
        return False
    for name in names:
        with np.load(first / "items" / name) as a, np.load(second / "items" / name) as b:
            if a.files != b.files or any(not np.array_equal(a[key], b[key]) for key in a.files):
                return False
    return True


def test_what_a_search_leaves_behind(run_folder: Path, command: Command) -> None:
    search = write_search(run_folder)
    outcome = command("search", search)
    assert outcome.code == 0, outcome.err
    run = run_folder / "run"
    files = {path.name for path in run.iterdir()}
    assert {"search.yaml", "environment.json", "trials.jsonl", "items", "verdict.json", "best.yaml"} <= files
    found = lines(run)
    assert [line["number"] for line in found] == list(range(BASELINES + 4))
    assert all(line["schema_version"] == 1 for line in found)
    assert all(line["state"] == "complete" for line in found[:BASELINES])
    assert {line["state"] for line in found[BASELINES:]} <= {"complete", "dropped"}
    best = read_recipe(run / "best.yaml")
    assert {"weights_digest", "sources", "tasks", "scores", "versions", "found_by"} <= set(best.facts)
    assert load_config(run / "search.yaml") == load_config(search)
    verdict = json.loads((run / "verdict.json").read_text())
    roles = [row["role"] for row in verdict["report"] if row["role"] != "baseline"]
    assert roles == ["base", "parent", "parent", "parent", "uniform", "winner"]
    assert "looked at once" in outcome.out
    assert "Scores on the report items" in outcome.out


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_half_and_resumed_is_the_whole(sampler: str, run_folder: Path, command: Command) -> None:
    racing = {"alpha": 0.7, "min_items": 16}  # drops many, so that what is told of dropped ones matters
    settings = {"sampler": sampler, "trials": 24, "seed": 5, "racing": racing}
    search = write_search(run_folder, search=settings, tasks=("mc",), scoring={"batch_size": 128, "block_items": 16})
    whole, halves = run_folder / "whole", run_folder / "halves"
    assert command("search", search, "--output", whole).code == 0
    assert command("search", search, "--output", halves, "--trials", 12).code == 0
    assert sum(not line["probe"] for line in lines(halves)) == BASELINES + 12
    assert command("search", search, "--output", halves, "--resume").code == 0
    assert lines(halves) == lines(whole)
    assert items_equal(halves, whole)
    assert sum(line["state"] == "dropped" for line in lines(whole)[: BASELINES + 12]) > 0
    assert json.loads((halves / "verdict.json").read_text())["report_looks"] == 2


def test_failed_candidates_are_recorded_and_the_run_goes_on(run_folder: Path, command: Command) -> None:
    (run_folder / "objectives.py").write_text(
        "calls = []\n"
        "def fragile(model, tokenizer, split):\n"
        "    calls.append(split)\n"
        "    if len(calls) in (10, 12):\n"
        "        raise ValueError('boiled over')\n"
        "    return {f'i{k}': float(k % 2) for k in range(20)}\n"
    )
    tasks = ("mc", {"name": "fragile", "python": "./objectives.py:fragile"})
    search = write_search(run_folder, tasks=tasks, search={"sampler": "random", "trials": 4, "racing": False})
    outcome = command("search", search)
    assert outcome.code == 0, outcome.err
    failed = [line for line in lines(run_folder / "run") if line["state"] == "failed"]
    assert [line["number"] for line in failed] == [10, 12]
    assert all("boiled over" in line["error"] and line["value"] is None for line in failed)
    assert "boiled over" in outcome.out


def test_what_fails_after_the_search_does_not_end_the_run(run_folder: Path, command: Command) -> None:
    (run_folder / "objectives.py").write_text(
        "calls = []\n"
        "def fragile(model, tokenizer, split):\n"
        "    calls.append(split)\n"
        "    if split != 'search' and calls.count(split) == 1:\n"
        "        raise ValueError(f'no {split} today')\n"
        "    return {f'i{k}': float(k % 2) for k in range(20)}\n"
    )
    tasks = ("mc", {"name": "fragile", "python": "./objectives.py:fragile"})
    outcome = command("search", write_search(run_folder, tasks=tasks), "--trials", 2)
    assert outcome.code == 0, outcome.err
    assert "cannot be scored on the select items" in outcome.out
    assert "no select today" in outcome.out
    assert "base cannot be scored on the report items" in outcome.out
    verdict = json.loads((run_folder / "run" / "verdict.json").read_text())
    assert verdict["report"][0]["role"] == "parent"


def test_run_whose_every_candidate_fails(run_folder: Path, command: Command) -> None:
    (run_folder / "objectives.py").write_text(
        "calls = []\n"
        "def fails(model, tokenizer, split):\n"
        "    calls.append(split)\n"
        f"    return float('nan') if len(calls) > {BASELINES - 1} else 1.0\n"
    )
    search = write_search(run_folder, tasks=({"name": "fails", "python": "./objectives.py:fails"},))
    outcome = command("search", search)
    assert outcome.code == 1
    assert "every candidate failed (4 of 4)" in outcome.err
    assert "Traceback" not in outcome.err
    assert len(lines(run_folder / "run")) == BASELINES + 4  # nothing is lost


def test_run_whose_parents_all_fail(run_folder: Path, command: Command) -> None:
    (run_folder / "objectives.py").write_text("def fails(model, tokenizer, split):\n    raise RuntimeError('no')\n")
    search = write_search(run_folder, tasks=({"name": "fails", "python": "./objectives.py:fails"},))
    outcome = command("search", search)
    assert outcome.code == 1
    assert "no fine-tune could be scored" in outcome.err


def test_limits_hold_for_the_winner(run_folder: Path, command: Command) -> None:
    tasks = ("mc", {"name": "gen", "max_drop": 0.0})
    search = write_search(run_folder, tasks=tasks, search={"sampler": "tpe", "trials": 8, "seed": 0})
    outcome = command("search", search)
    assert outcome.code == 0, outcome.err
    found = {line["number"]: line for line in lines(run_folder / "run")}
    parents = max(found[i]["scores"]["gen"]["value"] for i in (1, 2, 3))
    verdict = json.loads((run_folder / "run" / "verdict.json").read_text())
    for finalist in verdict["finalists"]:
        assert found[finalist["trial"]]["scores"]["gen"]["value"] >= parents


def test_unbounded_metric_is_scaled_by_the_best_parent(run_folder: Path, command: Command) -> None:
    search = write_search(run_folder, tasks=("mc", {"name": "ppl", "weight": 0.5}))
    assert command("search", search).code == 0
    found = lines(run_folder / "run")
    perplexity = {line["name"]: line["scores"]["ppl"]["value"] for line in found}
    best = min(perplexity[f"parent ./{name}"] for name in "abc")  # lower is better
    last = found[-1]
    expected = (last["scores"]["mc"]["value"] - 0.5 * last["scores"]["ppl"]["value"] / best) / 1.5
    assert last["value"] == pytest.approx(expected)


def test_users_recipe_is_a_baseline(run_folder: Path, command: Command) -> None:
    (run_folder / "recipes").mkdir()
    (run_folder / "recipes" / "mine.yaml").write_text(
        "merge_method: slerp\nbase_model: ../a\nparameters: {t: [0, 1]}\nmodels: [{model: ../a}, {model: ../c}]\n"
    )
    search = write_search(run_folder, baselines=["recipes/mine.yaml"], search={"trials": 0})
    assert command("search", search).code == 0
    mine = lines(run_folder / "run")[-1]
    assert mine["name"] == "mine.yaml"
    assert "gradient of 2 values" in mine["outside"]
    assert [source["model"] for source in mine["recipe"]["models"]] == ["./a", "./c"]


def test_time_limit_stops_asking(run_folder: Path, command: Command) -> None:
    search = write_search(run_folder, search={"sampler": "random", "trials": 10_000, "time_limit": "1s"}, tasks=("mc",))
    outcome = command("search", search)
    assert outcome.code == 0
    assert "time limit of 1 s reached" in outcome.out
    assert BASELINES < len(lines(run_folder / "run")) < 1000


def test_torn_tail_is_cut_and_its_trial_done_again(run_folder: Path, command: Command) -> None:
    search = write_search(run_folder, tasks=("mc",))
    assert command("search", search).code == 0
    run = run_folder / "run"
    before = lines(run)
    data = (run / "trials.jsonl").read_bytes()
    (run / "trials.jsonl").write_bytes(data[: -len(data.splitlines()[-1]) // 2])
    assert command("search", search, "--resume").code == 0
    assert lines(run) == before


def test_a_complete_run_is_left_alone(run_folder: Path, command: Command) -> None:
    search = write_search(run_folder, tasks=("mc",))
    assert command("search", search).code == 0
    before = {path: path.stat().st_mtime_ns for path in (run_folder / "run").rglob("*")}
    again = command("search", search, "--resume")
    assert again.code == 0
    assert "The run is complete, nothing was done" in again.out
    assert "winner: " in again.out
    assert {path: path.stat().st_mtime_ns for path in (run_folder / "run").rglob("*")} == before
    longer = command("search", search, "--resume", "--trials", 5)
    assert longer.code == 0
    assert "looked at 2 times" in longer.out
    assert len(lines(run_folder / "run")) == BASELINES + 5
    (run_folder / "run" / "best.yaml").unlink()  # killed before the last file was written
    assert "looked at 2 times" in command("search", search, "--resume", "--trials", 5).out


def test_items_tell_what_the_lines_say(run_folder: Path, command: Command) -> None:
    search = write_search(run_folder)
    assert command("search", search).code == 0
    run = RunFolder.open(run_folder / "run")
    for trial in run.trials():
        scores = run.items(trial.number, "search")
        assert scores is not None
        for name, score in trial.scores.items():
            if trial.complete:  # the scores of a dropped candidate are estimates for all items
                assert scores.items[name].values.mean() == pytest.approx(score.value)
            assert len(scores.items[name].ids) == score.n


def test_a_search_over_vocabularies_that_differ(tmp_path: Path, command: Command) -> None:
    text = ALPHABET[:40]
    tokens = {"base": text, "a": text[::-1] + "Q", "b": text + "R", "c": text[1:] + text[0] + "Q"}
    for seed, (name, own) in enumerate(tokens.items()):
        write_model(tmp_path / name, seed=seed, layers=2, vocab=4 + len(own), tokens=own)
    methods = {"methods": ["linear", "task_arithmetic", "ties"]}
    search = write_search(tmp_path, space=methods)
    outcome = command("search", search)
    assert outcome.code == 2
    assert "give tokenizer_source (union, base or a model) to merge the vocabularies" in outcome.err
    for source, size in (("union", 46), ("base", 44), ("./a", 45)):
        outcome = command("search", write_search(tmp_path, space=methods, tokenizer_source=source, output=f"./{size}"))
        assert outcome.code == 0, outcome.err
        best = tmp_path / str(size) / "best.yaml"
        assert command("verify", best).code == 0
        assert command("merge", best, tmp_path / f"merged-{size}").code == 0
        assert json.loads((tmp_path / f"merged-{size}" / "config.json").read_text())["vocab_size"] == size
    outcome = command("plan", write_search(tmp_path, tokenizer_source="union"))
    assert outcome.code == 2
    assert "space: methods.slerp: merges two models at a time, and the union of two vocabularies is not" in outcome.err
    outcome = command("plan", write_search(tmp_path, tokenizer_source="./d"))
    assert "unknown tokenizer_source './d'" in outcome.err


def test_a_recipe_of_another_vocabulary_is_not_scored(run_folder: Path, command: Command) -> None:
    recipe = "merge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 1}\n"
    rule = "tokenizer: {tokens: {new: {source: {kind: zero}}}}\n"
    (run_folder / "mine.yaml").write_text(recipe + rule)
    search = write_search(run_folder, baselines=["mine.yaml"])
    outcome = command("plan", search)
    assert outcome.code == 2
    assert "mine.yaml: its output has another vocabulary than the run's" in outcome.err
    (run_folder / "mine.yaml").write_text(recipe + "tokenizer_source: base\n")
    assert command("eval", run_folder / "mine.yaml", "--config", write_search(run_folder)).code == 0


def test_the_same_weights_under_another_name_are_not_scored_again(run_folder: Path, command: Command) -> None:
    search = write_search(run_folder, tasks=("mc",), search={"sampler": "random", "trials": 0, "seed": 0})
    assert command("search", search).code == 0
    by_name = {line["name"]: line for line in lines(run_folder / "run")}
    uniform, same = by_name["uniform"], by_name["task arithmetic, total weight 1"]
    assert (same["repeats"], same["items"]) == (uniform["number"], 0)
    assert same["value"] == uniform["value"]
    assert by_name["task arithmetic, total weight 2"]["repeats"] is None


def test_a_changed_task_is_named_with_its_key(run_folder: Path, command: Command) -> None:
    search = write_search(run_folder, tasks=({"name": "mc", "limit": 100},))
    config = load_config(search)
    write_search(run_folder, tasks=({"name": "mc", "limit": 101},))
    assert config.difference(load_config(search)) == ["tasks.mc.limit"]


def test_stopped_before_the_first_trial_keeps_nothing_and_says_so(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise StoppedError(130)

    monkeypatch.setattr("mergesmith.optimizer.commands.driver.settle_scorers", stopped)
    search = write_search(run_folder, tasks=("mc",))
    with pytest.raises(StoppedError) as stop:
        run_search(search, resume=False, overrides=Overrides(), options=Options(), console=make_console())
    assert (stop.value.code, stop.value.kept) == (130, False)
    assert not (run_folder / "run").exists()

"""A run settles on its scorers before the first trial, keeps to them, and tells how its winner answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Command
from tiny_run import write_search

from mergesmith.errors import UserError
from mergesmith.evaluators import ItemScores, Scores
from mergesmith.optimizer.run_folder.run_folder import RunFolder
from mergesmith.optimizer.search.answer_audit import audit_warnings
from mergesmith.optimizer.search.scorer_choice import recorded_plan

SCORING = {"batch_size": 128, "block_items": 40}


def test_scorers_are_chosen_recorded_and_kept(run_folder: Path, command: Command) -> None:
    search = write_search(run_folder, tasks=("mc", "gen", "ppl"))
    outcome = command("search", search, "--trials", 0)
    assert outcome.code == 0, outcome.err
    assert "mc: scored by packed, equal to lm-eval on 32 sampled items" in outcome.out
    path = run_folder / "run" / "scoring.json"
    recorded = json.loads(path.read_text())
    assert recorded["scorers"] == {"mc": "packed", "gen": "loop", "ppl": "rows"}
    assert recorded["token_budget"] > 0
    assert recorded["check"][0] in outcome.out
    path.write_text(json.dumps({**recorded, "scorers": {"mc": "rows", "gen": "hf", "ppl": "hf"}}))
    resumed = command("search", search, "--resume", "--trials", 1)
    assert resumed.code == 0, resumed.err
    assert recorded["check"][0] in resumed.out
    assert json.loads(path.read_text())["scorers"]["mc"] == "rows"
    verdict = json.loads((run_folder / "run" / "verdict.json").read_text())
    assert verdict["scorers"] == {"mc": "rows", "gen": "hf", "ppl": "hf"}
    assert set(verdict["report"][0]["answers"]) == {"gen"}
    assert set(verdict["report"][0]["answers"]["gen"]) == {"truncated", "empty", "unextracted", "length"}
    rates = RunFolder.open(run_folder / "run").trials()[0].answers
    assert rates["gen"].keys() == verdict["report"][0]["answers"]["gen"].keys()
    kept = RunFolder.open(run_folder / "run").items(0, "report")
    assert kept is not None
    assert kept.items["gen"].facts is not None
    assert kept.items["mc"].facts is None


def test_scorers_found_elsewhere_are_checked_again(run_folder: Path, command: Command) -> None:
    search = write_search(run_folder)
    assert command("search", search, "--trials", 0).code == 0
    path = run_folder / "run" / "scoring.json"
    found = json.loads(path.read_text())
    elsewhere = {**found, "scorers": {"mc": "hf"}, "made_with": {**found["made_with"], "torch": "1.0", "device": "tpu"}}
    path.write_text(json.dumps(elsewhere))
    outcome = command("search", search, "--resume", "--trials", 1)
    assert outcome.code == 0, outcome.err
    assert "checked again: device was tpu and is cpu, torch was 1.0" in outcome.out
    assert json.loads(path.read_text())["scorers"] == found["scorers"]
    for damaged in ("{", "[]", json.dumps({**found, "scorers": {"mc": "fast"}})):
        path.write_text(damaged)
        with pytest.raises(UserError, match=r"scoring\.json is damaged"):
            recorded_plan(path)


def test_a_forced_scorer_gives_the_same_items(run_folder: Path, command: Command) -> None:
    values = []
    for scorer in ("auto", "hf"):
        search = write_search(run_folder, scoring={**SCORING, "scorer": scorer}, output=f"./{scorer}")
        outcome = command("search", search, "--trials", 0)
        assert outcome.code == 0, outcome.err
        assert ("mc: scored by hf" in outcome.out) == (scorer == "hf")
        found = RunFolder.open(run_folder / scorer).items(1, "search")
        assert found is not None
        values.append({leaf: items.values.tolist() for leaf, items in found.items.items()})
    assert values[0] == values[1]


def test_an_unknown_scorer(run_folder: Path, command: Command) -> None:
    outcome = command("search", write_search(run_folder, scoring={"scorer": "fast"}))
    assert outcome.code == 2
    assert "scoring.scorer" in outcome.err


def scores(*, truncated: float = 0.0, empty: float = 0.0, unextracted: float = 0.0, length: float = 10.0) -> Scores:
    ids = tuple(str(i) for i in range(100))
    spread = np.arange(100) % 2 - 0.5
    rates = [(np.arange(100) < 100 * rate).astype(float) for rate in (truncated, empty, unextracted)]
    facts = np.stack([*rates, length + spread], axis=1)
    items = {"gen": ItemScores(ids, np.zeros(100), facts), "mc": ItemScores(ids, np.zeros(100))}
    return Scores("report", items)


def test_answers_unlike_the_parents_are_told() -> None:
    parents = [scores(truncated=0.1, length=10), scores(truncated=0.3, length=20)]
    assert audit_warnings(scores(truncated=0.2, length=15), parents) == []
    assert audit_warnings(scores(truncated=0.35, length=20.1), parents) == []  # within two standard errors
    told = audit_warnings(scores(truncated=0.6, empty=0.1, unextracted=0.05, length=30), parents)
    assert told == [
        "gen: 60% of the winner's answers are cut off at the limit, of the parents' 10% to 30%",
        "gen: 10% of the winner's answers are empty, of the parents' 0% to 0%",
        "gen: 5% of the winner's answers hold nothing that the task's filter looks for, of the parents' 0% to 0%",
        "gen: the winner's answers have 30.0 tokens on average, the parents' 10.0 to 20.0",
    ]
    assert len(audit_warnings(scores(length=5), parents)) == 2  # shorter, and less often cut off

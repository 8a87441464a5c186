"""The control beside a search, and what the stages of a search say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from command_line import Command
from tiny_run import write_search

BASELINES = 10
SETTINGS = {"sampler": "auto", "trials": 12, "seed": 1}


def lines(run: Path, name: str = "trials.jsonl") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / name).read_text().splitlines()]
    for line in found:
        line.pop("seconds", None)
    return found


def test_control(run_folder: Path, command: Command) -> None:
    """It spends what the search spent, leaves the search alone, can be added, interrupted and replayed."""
    search = write_search(run_folder, search=SETTINGS, tasks=("mc",))
    run = run_folder / "run"
    assert command("search", search).code == 0
    alone = lines(run)
    outcome = command("search", search, "--resume", "--control", "random")
    assert outcome.code == 0, outcome.err
    assert lines(run) == alone  # the control's candidates are not among the search's
    mine, control = alone[BASELINES:], lines(run / "control")
    assert [line["name"] for line in control[:BASELINES]] == [line["name"] for line in alone[:BASELINES]]
    spent, budget = sum(x["items"] for x in control[BASELINES:]), sum(x["items"] for x in mine)
    assert budget <= spent < budget + alone[0]["items"]
    verdict = json.loads((run / "verdict.json").read_text())
    assert (verdict["control"]["item_scores"], verdict["control"]["search_item_scores"]) == (spent, budget)
    assert verdict["winner"]["trial"] in {line["number"] for line in alone}
    assert [row["role"] for row in verdict["report"]][-2:] == ["control", "winner"]
    assert "the control's best" in verdict["comparisons"][-1]["against"]
    assert verdict["report_looks"] == 1  # nothing was searched since, and the winner is the same
    assert f"took {spent:,} item scores, the search {budget:,}" in outcome.out
    assert f"{spent:,} of {budget:,} item scores; best: " in command("status", run).out
    cut_to(run / "control", BASELINES + 2)
    assert command("search", search, "--resume", "--control", "random").code == 0
    assert lines(run / "control") == control
    replayed = command("replay", run / "control")
    assert replayed.code == 0, replayed.out


def cut_to(run: Path, trials: int) -> None:
    """Leave the first trials of a run, as if its driver had been killed then."""
    path = run / "trials.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:trials]))


def test_stages_say_what_they_took(run_folder: Path, command: Command) -> None:
    """In one line each, in events.jsonl and in the verdict; probes are not counted as candidates."""
    outcome = command("search", write_search(run_folder, search=SETTINGS | {"trials": 14}, tasks=("mc",)))
    assert outcome.code == 0, outcome.err
    run = run_folder / "run"
    trials = lines(run)[BASELINES:]
    assert sum(not trial["probe"] for trial in trials) == 14
    ends = [event for event in lines(run, "events.jsonl") if event["event"] == "stage"]
    assert len({event["name"] for event in ends}) == len(ends)
    for event in ends:
        mine = [trial for trial in trials if trial["stage"] == event["name"]]
        assert event["items"] == sum(trial["items"] for trial in mine)
        assert event["candidates"] + event["probes"] == len(mine)
        assert outcome.out.count(f"\n{event['name']}: ") == 1
        assert event["reason"]
    assert "line: 6 candidates, " in outcome.out
    assert ends[-1]["reason"] == "all 14 candidates were proposed"
    verdict = json.loads((run / "verdict.json").read_text())
    assert [stage["name"] for stage in verdict["stages"]] == [event["name"] for event in ends]


def test_item_scores_end_a_search(run_folder: Path, command: Command) -> None:
    settings = {"sampler": "random", "trials": 50, "seed": 1, "item_scores": 200}
    assert command("search", write_search(run_folder, search=settings, tasks=("mc",))).code == 0
    trials = lines(run_folder / "run")
    spent = [trial["items"] for trial in trials[BASELINES:]]
    assert sum(spent[:-1]) < 200 <= sum(spent)

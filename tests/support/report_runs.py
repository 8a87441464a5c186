"""Run folders with many trials and, if asked for, a verdict, written without a search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from made_runs import TASKS, make_scores, make_trial

from mergesmith.evaluators import ItemScores, ItemText, Leaf, Scores, TaskEntry
from mergesmith.optimizer.config import parse_config
from mergesmith.optimizer.run_folder.answer_file import save_answers, save_item_texts
from mergesmith.optimizer.run_folder.lifecycle import create_run
from mergesmith.optimizer.run_folder.run_folder import RunFolder
from mergesmith.optimizer.run_folder.task_file import write_tasks
from mergesmith.search_spaces import BASE, parent_name

MODELS = ("./zoo/a", "./zoo/<script>alert(1)</script>")
ENTRIES = tuple(TaskEntry(task, 1.0, "acc", "none", 1, True, None, (Leaf(task, 1.0, "mean"),)) for task in TASKS)
WINNER = 5


def write_run(folder: Path, trials: int, *, items: int = 60, verdict: bool = True, **search: Any) -> RunFolder:
    """Write a run of three baselines and `trials` candidates, every third of them dropped."""
    document = {"base_model": "./zoo/base", "models": list(MODELS), "tasks": list(TASKS), "search": search}
    run = create_run(folder, parse_config(document, where="search.yaml"), folder.parent)
    write_tasks(run.files, ENTRIES)
    names = [BASE, *(parent_name(model) for model in MODELS)]
    for number in range(len(names) + trials):
        dropped = number > WINNER and number % 3 == 0
        name = names[number] if number < len(names) else ""
        changes = {"name": name, "state": "dropped" if dropped else "complete", "stage": "" if name else "refine"}
        run.append(make_trial(number, items=items, **changes), make_scores(number, items=items))
    if verdict:
        write_verdict(run, items)
    run.close()
    return run


def write_verdict(run: RunFolder, items: int) -> None:
    """Write the verdict, answers and recipe of a winner."""
    reported = {number: report_scores(number, items) for number in (0, 1, 2, WINNER)}
    first = reported[WINNER].items
    save_item_texts(run.files, {t: {i: ItemText(f"<b>{t} {i}", "gold&") for i in first[t].ids} for t in TASKS})
    for number, scores in reported.items():
        run.save_items(number, scores)
        save_answers(run.files, number, scores)
    trials = {trial.number: trial for trial in run.trials()}
    rows = [_row(trials[n], "winner" if n == WINNER else "base" if n == 0 else "parent") for n in reported]
    difference = {"value": 0.12, "low": 0.03, "high": 0.21, "n": items}
    sentence = "The winner is better than the best parent (./zoo/a): +0.1200."
    tasks = {task: {**difference, "low": None, "high": None} for task in TASKS}
    document = {
        "schema_version": 1,
        "report_looks": 1,
        "scorers": {},
        "winner": {"trial": WINNER, "name": trials[WINNER].label},
        "best_parent": {"trial": 1, "name": trials[1].label},
        "finalists": [],
        "report": rows,
        "comparisons": [{"against": "the best parent", **difference, "tasks": tasks, "sentence": sentence}],
        "limits": [],
        "stages": [],
        "control": None,
        "warnings": ["answers of <i>gsm8k</i> are short"],
    }
    run.files.write_json("verdict.json", document)
    run.files.write_text("best.yaml", trials[WINNER].recipe.to_yaml())


def report_scores(number: int, items: int) -> Scores:
    """Return scores on the report part, with an answer per item."""
    found = make_scores(number + 1000, items=items).items
    scores = {t: ItemScores(s.ids, s.values, answers=tuple(f"<u>{number}" for _ in s.ids)) for t, s in found.items()}
    return Scores("report", scores)


def _row(trial: Any, role: str) -> dict[str, Any]:
    document = json.loads(trial.to_line())
    kept = {"objective": trial.value, "stderr": 0.01, "scores": document["scores"], "answers": {}}
    return {"role": role, "trial": trial.number, "name": trial.label, **kept}

"""The names of the files in a run's folder; `run_folder.py` describes their content."""

from __future__ import annotations

from pathlib import Path

CONFIG, TRIALS, VERDICT, BEST = "search.yaml", "trials.jsonl", "verdict.json", "best.yaml"
ENVIRONMENT, INGREDIENTS, LOOKS = "environment.json", "ingredients.json", "looks.json"
SANITY, TASKS, ANSWERS, REPORT = "sanity.json", "tasks.json", "answers.jsonl", "report.html"
SCORING, EVENTS, ITEMS, JOURNAL, LOCK = "scoring.json", "events.jsonl", "items", "study.journal", "lock"
CONTROL = "control"  # a folder: the run of the control
FILES = (
    *(CONFIG, TRIALS, VERDICT, BEST, ENVIRONMENT, INGREDIENTS, LOOKS, SANITY, TASKS, ANSWERS, REPORT),
    *(SCORING, EVENTS, JOURNAL, LOCK),
)


def is_run(path: Path) -> bool:
    """Return whether a folder holds a run; a search.yaml alone may be a file that a user wrote."""
    return (path / CONFIG).is_file() and (path / ENVIRONMENT).is_file()

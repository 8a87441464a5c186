"""Trade-offs between tasks: scatter plots of pairs of tasks, with the non-dominated models marked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from markupsafe import Markup

from ....evaluators import TaskEntry
from ...run_folder.trial import Trial
from ..drawing.axis import Axis, columns, rows
from ..drawing.svg import dot, dots, picture, shortened, text
from ..facts import RunFacts
from ..section import Section, Table, decimals, thinned

MAX_PAIRS, MAX_DOTS = 6, 2000
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 330, 290, 50, 320, 14, 232
MAX_LISTED = 30


def section(facts: RunFacts) -> Section:
    """Return the section; it has no pictures with fewer than two tasks or models."""
    trials = [trial for trial in facts.trials if trial.complete and trial.repeats is None and trial.value is not None]
    entries = facts.entries
    usable = len(entries) > 1 and len(trials) > 1
    values = np.array([[entry.sign * trial.scores[entry.name].value for entry in entries] for trial in trials])
    front = non_dominated(values) if usable else np.zeros(0, dtype=bool)
    pairs = _opposed(values, len(entries)) if usable else []
    chosen = [trial for trial, on in zip(trials, front, strict=False) if on]
    chosen.sort(key=lambda trial: (-(trial.value or 0.0), trial.number))
    content = {
        "pictures": [_picture(entries[i], entries[j], trials, front) for i, j in pairs],
        "pairs": len(entries) * (len(entries) - 1) // 2,
        "count": len(chosen),
        "table": _table(entries, chosen[:MAX_LISTED]),
    }
    return Section("trade_offs", "Trade-offs between tasks", content)


def non_dominated(values: np.ndarray) -> np.ndarray:
    """Return (n,) bool for (n, tasks) values, higher is better: no other row is at least as good and once better."""
    return np.array([not ((values >= row).all(axis=1) & (values > row).any(axis=1)).any() for row in values])


def _opposed(values: np.ndarray, tasks: int) -> list[tuple[int, int]]:
    """Return the pairs of tasks to draw: the most opposed ones, by the correlation of their scores."""
    centred = values - values.mean(axis=0)
    norms = np.sqrt((centred**2).sum(axis=0))
    norms[norms == 0] = 1.0
    correlations = (centred.T @ centred) / norms[:, None] / norms
    pairs = sorted(combinations(range(tasks), 2), key=lambda pair: (round(float(correlations[pair]), 9), pair))
    return pairs[:MAX_PAIRS]


def _picture(across: TaskEntry, up: TaskEntry, trials: Sequence[Trial], front: np.ndarray) -> Markup:
    points = [(trial.scores[across.name].value, trial.scores[up.name].value) for trial in trials]
    x = Axis.around([point[0] for point in points], *_ends(LEFT, RIGHT, across))
    y = Axis.around([point[1] for point in points], *_ends(BOTTOM, TOP, up))
    parts = [*rows(y, LEFT, RIGHT), *columns(x, TOP, BOTTOM, most=5)]
    plain = [(x.at(a), y.at(b)) for (a, b), trial in zip(points, trials, strict=True) if not trial.name]
    parts.append(dots(thinned(plain, MAX_DOTS), "points"))
    for (a, b), trial, best in zip(points, trials, front, strict=True):
        if best or trial.name:
            title = f"{trial.label}: {across.name} {a:.4f}, {up.name} {b:.4f}"
            kind = "mark-front" if best else "mark-base"
            parts.append(dot(x.at(a), y.at(b), kind, title=title, radius=4.2 if best else 3.6))
    middle = (LEFT + RIGHT) / 2
    parts.append(text(middle, BOTTOM + 36, _title(across), class_="label", text_anchor="middle"))
    turn = f"rotate(-90 12 {(TOP + BOTTOM) / 2:.0f})"
    parts.append(text(12, (TOP + BOTTOM) / 2, _title(up), class_="label", text_anchor="middle", transform=turn))
    return picture(WIDTH, HEIGHT, f"{up.name} against {across.name}", parts)


def _ends(start: float, stop: float, entry: TaskEntry) -> tuple[float, float]:
    """Return the ends of an axis such that better values are on the right, or above."""
    return (start, stop) if entry.sign > 0 else (stop, start)


def _title(entry: TaskEntry) -> str:
    return shortened(entry.name if entry.sign > 0 else f"{entry.name} (lower is better)", BOTTOM - TOP)


def _table(entries: Sequence[TaskEntry], trials: Sequence[Trial]) -> Table:
    found = [
        [trial.label, *(decimals(trial.scores[entry.name].value) for entry in entries), decimals(trial.value)]
        for trial in trials
    ]
    return Table(["model", *(entry.name for entry in entries), "overall"], found, ["model"])

"""Items by models: which search items the parents, the baselines and the best candidates answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from ....evaluators import Scores
from ...run_folder.trial import Trial
from ..drawing.png import png_uri
from ..drawing.svg import element, picture, shortened, text
from ..facts import RunFacts
from ..section import Section, Table, decimals

MAX_CANDIDATES = 20
LEFT, RIGHT, ROW, TOP, GAP = 230, 980, 15, 24, 6
LEVELS = 10  # shades between the worst and the best score
UNKNOWN = LEVELS + 1
WORST, BEST, GREY = (240, 166, 74), (0, 91, 150), (136, 136, 136)
PALETTE = [
    *(tuple(round(w + (b - w) * i / LEVELS) for w, b in zip(WORST, BEST, strict=True)) for i in range(LEVELS + 1)),
    GREY,
]
Cells = Mapping[int, Mapping[str, np.ndarray]]  # trial -> task -> (items,) float64, higher is better


@dataclass(frozen=True)
class Flips:
    """Items on which a model is better (`won`) or worse (`lost`) than the best parent."""

    won: int
    lost: int

    @property
    def p_value(self) -> float:
        """The two-sided p-value of McNemar's exact test: won and lost items are equally likely."""
        n, less = self.won + self.lost, min(self.won, self.lost)
        return min(1.0, 2 * sum(math.comb(n, i) for i in range(less + 1)) / 2**n)


def section(facts: RunFacts) -> Section:
    """Return the section; it has no picture if no items are recorded."""
    best = [trial for trial in facts.feasible if not trial.name and trial.repeats is None][:MAX_CANDIDATES]
    others = [trial for trial in facts.baselines if trial not in facts.parents and trial.repeats is None]
    shown = [*facts.parents, *others, *best]
    cells = {trial.number: found for trial in shown if (found := _cells(facts, trial))}
    shown = [trial for trial in shown if trial.number in cells]
    parent = facts.best_parent
    content = {
        "picture": _picture(facts, shown, cells) if shown else None,
        "parent": None if parent is None else parent.label,
        "table": None if parent is None or parent.number not in cells else _table(shown, cells, parent),
        "items": sum(len(values) for values in next(iter(cells.values()), {}).values()),
    }
    return Section("matrix", "Item by item", content)


def _cells(facts: RunFacts, trial: Trial) -> Mapping[str, np.ndarray]:
    scores = facts.items(trial, "search")
    found = {} if scores is None else {entry.name: _values(scores, entry.leaves, entry.sign) for entry in facts.entries}
    return {task: values for task, values in found.items() if len(values)}


def _values(scores: Scores, leaves: Sequence[object], sign: int) -> np.ndarray:
    """Return the values of a task's items; metrics with several values per item are left out."""
    names = [getattr(leaf, "name", "") for leaf in leaves]
    found = [scores.items[name].values for name in names if name in scores.items]
    return sign * np.concatenate([values for values in found if values.ndim == 1] or [np.empty(0)])


def _picture(facts: RunFacts, shown: Sequence[Trial], cells: Cells) -> Markup:
    counts = {e.name: len(cells[shown[0].number].get(e.name, ())) for e in facts.entries}
    tasks = [task for task, count in counts.items() if count]
    unit = (RIGHT - LEFT - GAP * (len(tasks) - 1)) / sum(counts[task] for task in tasks)
    parts: list[Markup] = []
    x = float(LEFT)
    for task in tasks:
        width = unit * counts[task]
        values = np.array([_row(cells[t.number].get(task), counts[task]) for t in shown])
        parts.append(text(x, TOP - 8, shortened(f"{task} ({counts[task]})", width), class_="tick"))
        parts.append(_image(values, x, width, len(shown) * ROW))
        x += width + GAP
    winner = facts.winner
    for r, trial in enumerate(shown):
        name = "strong" if winner is not None and trial.number == winner.number else "label"
        y = TOP + r * ROW + ROW - 4
        parts.append(text(LEFT - 8, y, shortened(trial.label, LEFT - 12), class_=name, text_anchor="end"))
    return picture(RIGHT + 6, TOP + len(shown) * ROW + 6, "Scores of models on each search item", parts)


def _row(values: np.ndarray | None, count: int) -> np.ndarray:
    return values if values is not None and len(values) == count else np.full(count, np.nan)


def _image(values: np.ndarray, x: float, width: float, height: float) -> Markup:
    """Return the picture of (models, items) scores, with the items that most models answer on the left."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    shades = np.rint((values - low) / ((high - low) or 1.0) * LEVELS)
    indices = np.where(np.isfinite(values), shades, UNKNOWN).astype(np.uint8)
    means = np.where(np.isfinite(values), values, low).mean(axis=0)
    uri = png_uri(indices[:, np.argsort(-means, kind="stable")], PALETTE)
    return element("image", x=x, y=TOP, width=width, height=height, href=uri, preserveAspectRatio="none")


def _table(shown: Sequence[Trial], cells: Cells, parent: Trial) -> Table:
    rows = []
    for trial in shown:
        if trial.number == parent.number:
            continue
        flips = _flips(cells[trial.number], cells[parent.number])
        p = "<0.001" if flips.p_value < 0.001 else decimals(flips.p_value)
        rows.append([trial.label, decimals(trial.value, 4), str(flips.won), str(flips.lost), p])
    return Table(["model", "search score", "items won", "items lost", "p (McNemar)"], rows, ["model"])


def _flips(mine: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> Flips:
    pairs = [(mine[task], other[task]) for task in mine if task in other and len(mine[task]) == len(other[task])]
    return Flips(sum(int((a > b).sum()) for a, b in pairs), sum(int((a < b).sum()) for a, b in pairs))

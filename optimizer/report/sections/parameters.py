"""Parameters and scores within each method: parallel coordinates, slices, and rank correlations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from scipy.stats import rankdata

from ....merge_ops import Recipe
from ...run_folder.trial import Trial
from ..drawing.axis import Axis, columns, label, rows
from ..drawing.svg import dot, dots, line, path, picture, shortened, text
from ..facts import RunFacts, finite
from ..section import Section, interval, signed, thinned

FEWEST = 3  # candidates of a method that are drawn
FEW = 30  # below this, correlations are mostly noise
MAX_AXES, MAX_THREADS, MAX_DOTS = 10, 300, 600
RESAMPLES, INTERVAL = 400, (2.5, 97.5)
TOTAL, WEIGHT = "total weight", "weight"


@dataclass(frozen=True)
class Studied:
    """The candidates of one method, best first.

    Attributes:
        names: (d,) the varied parameters: the total weight, then the others, the most correlated first.
        points: (n, d) their values.
        values: (n,) the scores.
        correlations: (d, 3) rank correlation with the score, and the ends of its interval.
    """

    method: str
    trials: Sequence[Trial]
    names: Sequence[str]
    points: np.ndarray
    values: np.ndarray
    correlations: np.ndarray


def section(facts: RunFacts) -> Section:
    """Return the section with the pictures of every method that has enough candidates."""
    by_method: dict[str, list[Trial]] = {}
    for trial in facts.candidates:
        if finite(trial.value) and trial.params is not None and trial.repeats is None:
            by_method.setdefault(trial.recipe.merge_method, []).append(trial)
    found = [_studied(method, trials) for method, trials in by_method.items() if len(trials) >= FEWEST]
    found.sort(key=lambda studied: -float(studied.values[0]))
    winner = None if facts.winner is None else facts.winner.number
    methods = [
        {
            "name": studied.method,
            "count": len(studied.trials),
            "few": len(studied.trials) < FEW,
            "left_out": max(0, len(studied.names) - MAX_AXES),
            "threads": _threads(studied, winner),
            "importance": _importance(studied),
            "slices": [_slice(studied, i, winner) for i in range(min(MAX_AXES, len(studied.names)))],
        }
        for studied in found
        if studied.names
    ]
    return Section("parameters", "Parameters and score, by method", {"methods": methods, "few": FEW})


def _studied(method: str, trials: Sequence[Trial]) -> Studied:
    ranked = sorted(trials, key=lambda trial: (-(trial.value or 0.0), trial.number))
    columns_by_name = {TOTAL: [_total_weight(trial.recipe) for trial in ranked]}
    for name in dict.fromkeys(name for trial in ranked for name in trial.params or {}):
        values = [(trial.params or {}).get(name) for trial in ranked]
        if all(isinstance(value, (int, float)) for value in values):
            columns_by_name[name.removeprefix(f"{method}.")] = [float(value) for value in values if value is not None]
    varied = {name: column for name, column in columns_by_name.items() if max(column) > min(column)}
    points = np.array(list(varied.values()), dtype=np.float64).reshape(len(varied), len(ranked)).T
    scores = np.array([trial.value for trial in ranked], dtype=np.float64)
    correlations = _correlations(points, scores)
    # The total weight is always shown; the others follow by the strength of their correlation.
    first = np.array([name != TOTAL for name in varied], dtype=bool)
    order = np.lexsort((-np.abs(correlations[:, 0]), first))
    names = [list(varied)[i] for i in order]
    return Studied(method, ranked, names, points[:, order], scores, correlations[order])


def _total_weight(recipe: Recipe) -> float:
    """Return the sum over models of their weights, averaged over depth and filters; 0 without weights."""
    settings = [source.parameters[WEIGHT] for source in recipe.models if WEIGHT in source.parameters]
    return float(sum(np.mean([float(v) for rule in setting.rules for v in rule.values]) for setting in settings))


def _correlations(points: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return (d, 3): Spearman's correlation of each column with the scores, and a 95 % bootstrap interval."""
    ranks = np.column_stack([rankdata(points, axis=0), rankdata(scores)])
    rng = np.random.Generator(np.random.PCG64(0))
    draws = [_with_last(ranks[rng.integers(0, len(ranks), len(ranks))]) for _ in range(RESAMPLES)]
    low, high = np.percentile(draws, INTERVAL, axis=0)
    return np.column_stack([_with_last(ranks), low, high])


def _with_last(ranks: np.ndarray) -> np.ndarray:
    """Return the correlation of each column with the last one; 0 for constant columns."""
    centred = ranks - ranks.mean(axis=0)
    norms = np.sqrt((centred**2).sum(axis=0))
    products = centred[:, :-1].T @ centred[:, -1]
    scale = norms[:-1] * norms[-1]
    return np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)


def _threads(studied: Studied, winner: int | None) -> Markup:
    """Return parallel coordinates: a line per candidate over the most correlated parameters and the score."""
    shown = min(MAX_AXES, len(studied.names))
    names = [*studied.names[:shown], "score"]
    table = np.column_stack([studied.points[:, :shown], studied.values])[:MAX_THREADS]
    axes = [Axis.around(column, 210, 30) for column in table.T.tolist()]
    places = [80 + i * (740 / (len(names) - 1)) for i in range(len(names))]
    parts: list[Markup] = []
    top = max(1, len(table) // 10)
    for i in reversed(range(len(table))):  # the best are drawn last, above the others
        trial = studied.trials[i]
        kind = "thread winner" if trial.number == winner else "thread top" if i < top else "thread"
        points = [(x, axis.at(value)) for x, axis, value in zip(places, axes, table[i].tolist(), strict=True)]
        parts.append(path(points, kind, title=f"{trial.label}: {studied.values[i]:.4f}" if i < top else ""))
    for i, (x, name) in enumerate(zip(places, names, strict=True)):
        values = table[:, i]
        parts.append(line(x, 30, x, 210, "zero"))
        parts.append(text(x, 24, label(float(values.max())), class_="tick", text_anchor="middle"))
        parts.append(text(x, 224, label(float(values.min())), class_="tick", text_anchor="middle"))
        low = 240 if i % 2 == 0 else 255  # neighbouring names are in different lines
        width = 2 * 740 / (len(names) - 1)
        parts.append(text(x, low, shortened(name, width), class_="tick", text_anchor="middle"))
    return picture(890, 264, f"Parallel coordinates of {studied.method}", parts)


def _importance(studied: Studied) -> Markup:
    shown = min(MAX_AXES, len(studied.names))
    x = Axis(-1.0, 1.0, 260, 620)
    bottom = 8 + 20 * shown
    parts = [*columns(x, 4, bottom), line(x.at(0), 4, x.at(0), bottom, "zero")]
    for i in range(shown):
        parts += _correlation(studied.names[i], studied.correlations[i].tolist(), x, 18 + 20 * i)
    return picture(800, bottom + 24, f"Rank correlation of parameters and score, {studied.method}", parts)


def _correlation(name: str, found: Sequence[float], x: Axis, y: float) -> Iterator[Markup]:
    value, low, high = found
    yield text(250, y + 4, shortened(name, 240), class_="label", text_anchor="end")
    yield path([(x.at(low), y), (x.at(high), y)], "whisker stroke c0")
    yield dot(x.at(value), y, "fill c0", title=f"{name}: {value:+.2f}", radius=4)
    yield text(632, y + 4, f"{signed(value, 2)} {interval(low, high)}", class_="tick")


def _slice(studied: Studied, i: int, winner: int | None) -> Markup:
    """Return the scores against one parameter; other parameters differ too."""
    x = Axis.around(studied.points[:, i].tolist(), 46, 260)
    y = Axis.around(studied.values.tolist(), 150, 10)
    parts = [*rows(y, 46, 260), *columns(x, 10, 150, most=4)]
    places = [(x.at(a), y.at(b)) for a, b in zip(studied.points[:, i].tolist(), studied.values.tolist(), strict=True)]
    pairs = list(zip(places, studied.trials, strict=True))
    for whole, kind in ((False, "points faint"), (True, "points")):
        parts.append(dots(thinned([place for place, trial in pairs if trial.complete == whole], MAX_DOTS), kind))
    best = next((n for n, trial in enumerate(studied.trials) if trial.number == winner), None)
    if best is not None:
        parts.append(dot(*places[best], "mark-front", title=f"{studied.trials[best].label}", radius=4.5))
    parts.append(text(153, 186, shortened(studied.names[i], 210), class_="label", text_anchor="middle"))
    return picture(270, 192, f"Score against {studied.names[i]}", parts)

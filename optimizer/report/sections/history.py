"""The score of every candidate against the item scores that the search had spent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ...run_folder.trial import Trial
from ..drawing.axis import Axis, columns, rows
from ..drawing.svg import dot, element, line, path, picture, plain, shortened, text
from ..facts import RunFacts, finite
from ..section import Section, thinned

WIDTH, HEIGHT = 900, 356
LEFT, RIGHT, TOP, BOTTOM = 56, 720, 12, 316
MAX_POINTS = 2000  # half of them scored in full, half dropped
LABEL_HEIGHT, STAGE_HEIGHT = 13, 14


@dataclass(frozen=True)
class Point:
    """A candidate and the item scores that proposals had taken when it finished."""

    spent: int
    trial: Trial


def section(facts: RunFacts) -> Section:
    """Return the section with the picture; None without a candidate."""
    points = _points(facts)
    shown = _thinned(points)
    content = {
        "picture": _picture(facts, points, shown) if points else None,
        "left_out": len(points) - len(shown),
        "failed": sum(trial.failed for trial in facts.candidates),
    }
    return Section("history", "Score against item scores spent", content)


def _points(facts: RunFacts) -> list[Point]:
    points, spent = [], 0
    for trial in facts.proposals:
        spent += trial.items
        if not trial.probe and finite(trial.value):
            points.append(Point(spent, trial))
    return points


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Return the points to draw: some of the dropped candidates, and some of the others if there are very many."""
    kinds = ([p for p in points if p.trial.complete], [p for p in points if not p.trial.complete])
    shown = [point for kind in kinds for point in thinned(kind, MAX_POINTS // 2)]
    return sorted(shown, key=lambda point: point.spent)


def _picture(facts: RunFacts, points: Sequence[Point], shown: Sequence[Point]) -> Markup:
    values = [trial.value for trial in facts.baselines] + [point.trial.value for point in points]
    y = Axis.around([v for v in values if v is not None], BOTTOM, TOP)
    x = Axis(0.0, max(1.0, points[-1].spent * 1.02), LEFT, RIGHT)
    parts = [*rows(y, LEFT, RIGHT), *columns(x, BOTTOM, BOTTOM), *_baselines(facts, y)]
    for point in shown:
        parts += _mark(facts, point, x, y)
    parts.append(path(_incumbents(facts, points, x, y), "incumbent"))
    below = (LEFT + RIGHT) / 2, HEIGHT - 4
    parts.append(text(*below, "item scores spent by proposals", class_="label", text_anchor="middle"))
    stages = list(dict.fromkeys(trial.stage for trial in facts.proposals if trial.stage))
    parts += _stages(facts.proposals, x, HEIGHT + STAGE_HEIGHT)
    height = HEIGHT + (STAGE_HEIGHT * (len(stages) + 1) if stages else 0)
    return picture(WIDTH, height, "Score of every candidate against item scores spent", parts)


def _mark(facts: RunFacts, point: Point, x: Axis, y: Axis) -> Iterator[Markup]:
    trial, value = point.trial, point.trial.value or 0.0
    error = trial.stderr
    if error is None and facts.objective is not None:
        error = facts.objective.stderr(trial.scores)
    across = x.at(point.spent)
    kind = "dropped" if trial.dropped else "complete" if facts.keeps_limits(trial) else "infeasible"
    if error is not None and finite(error) and error > 0:
        low, high = max(y.low, value - error), min(y.high, value + error)
        yield path([(across, y.at(low)), (across, y.at(high))], f"error {kind}")
    tip = f"{trial.label}: {value:.4f}, {kind}{f', stage {trial.stage}' if trial.stage else ''}, {trial.items} items"
    yield dot(across, y.at(value), f"point {kind}", title=tip)


def _incumbents(facts: RunFacts, points: Sequence[Point], x: Axis, y: Axis) -> list[tuple[float, float]]:
    """Return the step line of the best value so far, which baselines begin."""
    first = [t for t in facts.baselines if facts.keeps_limits(t)]
    best = max((trial.value or 0.0 for trial in first), default=None)
    line_points = [] if best is None else [(x.at(0), y.at(best))]
    for point in points:
        trial, value = point.trial, point.trial.value or 0.0
        if trial.complete and facts.keeps_limits(trial) and (best is None or value > best):
            if best is not None:
                line_points.append((x.at(point.spent), y.at(best)))
            best = value
            line_points.append((x.at(point.spent), y.at(best)))
    return line_points if best is None else [*line_points, (x.stop, y.at(best))]


def _baselines(facts: RunFacts, y: Axis) -> Iterator[Markup]:
    """Yield a line per baseline, with labels moved apart."""
    below = 0.0
    for trial in sorted(facts.baselines, key=lambda trial: (-(trial.value or 0.0), trial.number)):
        height = y.at(trial.value or 0.0)
        below = max(height, below + LABEL_HEIGHT)
        kind = "parent" if trial.name.startswith("parent ") else "baseline"
        yield line(LEFT, height, RIGHT, height, f"level {kind}")
        yield path([(RIGHT, height), (RIGHT + 8, below)], f"level {kind}")
        label = shortened(trial.name, WIDTH - RIGHT - 16)
        yield text(RIGHT + 11, below + 4, label, class_="tick")


def _stages(proposals: Sequence[Trial], x: Axis, top: float) -> Iterator[Markup]:
    """Yield a row per stage, with a bar over the item scores that its proposals took, probes included."""
    spans: dict[str, list[tuple[int, int]]] = {}
    spent = 0
    for trial in proposals:
        if trial.stage:
            found = spans.setdefault(trial.stage, [])
            if found and found[-1][1] == spent:
                found[-1] = (found[-1][0], spent + trial.items)
            else:
                found.append((spent, spent + trial.items))
        spent += trial.items
    for row, (stage, found) in enumerate(spans.items()):
        y = top + row * STAGE_HEIGHT
        steps = "".join(f"M{plain(x.at(a))} {plain(y)}H{plain(x.at(b))}" for a, b in found)
        yield element("path", d=steps, class_="stage")
        yield text(RIGHT + 11, y + 4, stage, class_="tick")

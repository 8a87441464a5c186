"""Forest plot: the winner minus the best parent, the uniform average and the best baseline, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from ..drawing.axis import Axis, columns
from ..drawing.svg import dot, line, path, picture, shortened, text
from ..facts import Document, RunFacts
from ..section import Section, interval, signed

WIDTH, LEFT, RIGHT = 760, 200, 560
ROW, GAP, TOP = 20, 10, 12
OVERALL = "overall"


def section(facts: RunFacts) -> Section:
    """Return the section with one picture for the bounded metrics, and one for every other task."""
    comparisons = [] if facts.verdict is None else facts.verdict["comparisons"]
    pictures = []
    if comparisons:
        bounded = {entry.name: entry.bounded for entry in facts.entries}
        tasks = list(comparisons[0].get("tasks", {}))
        together = [OVERALL, *(task for task in tasks if bounded.get(task, True))]
        pictures = [_picture(comparisons, group) for group in (together, *([t] for t in tasks if t not in together))]
    legend = [(f"c{i}", comparison["against"]) for i, comparison in enumerate(comparisons)]
    return Section("intervals", "The winner against its rivals", {"pictures": pictures, "legend": legend})


def _picture(comparisons: Sequence[Document], groups: Sequence[str]) -> Markup:
    shown = [[_difference(comparison, group) for comparison in comparisons] for group in groups]
    ends = [d[key] for ds in shown for d in ds for key in ("value", "low", "high")]
    axis = Axis.around([0.0, *(end for end in ends if end is not None)], LEFT, RIGHT)
    height = TOP + len(groups) * (len(comparisons) * ROW + GAP) + 26
    parts = [*columns(axis, TOP, height - 26), line(axis.at(0), TOP, axis.at(0), height - 26, "zero")]
    for g, (group, differences) in enumerate(zip(groups, shown, strict=True)):
        top = TOP + g * (len(comparisons) * ROW + GAP)
        middle = top + len(comparisons) * ROW / 2
        name = "strong" if group == OVERALL else "label"
        parts.append(text(LEFT - 12, middle + 4, shortened(group, LEFT - 24), class_=name, text_anchor="end"))
        for i, difference in enumerate(differences):
            parts += _mark(axis, top + i * ROW + ROW / 2, i, difference)
    return picture(WIDTH, height, f"Differences with 95 % intervals: {', '.join(groups)}", parts)


def _mark(axis: Axis, y: float, colour: int, difference: Mapping[str, float | None]) -> Iterator[Markup]:
    value, low, high = difference["value"], difference["low"], difference["high"]
    if value is None:
        return
    written = f"{signed(value)} {interval(low, high)}"
    if low is not None and high is not None:
        yield path([(axis.at(low), y), (axis.at(high), y)], f"whisker stroke c{colour}")
    yield dot(axis.at(value), y, f"fill c{colour}", title=f"{written} on {difference['n']} items", radius=4.5)
    yield text(RIGHT + 12, y + 4, written, class_="tick")


def _difference(comparison: Document, group: str) -> Mapping[str, float | None]:
    return comparison if group == OVERALL else comparison["tasks"][group]

"""The recipe: its parameters over models, filters and depth, and its YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ....merge_ops import Recipe, Setting, Source, parse_recipe
from ..drawing.axis import label
from ..drawing.svg import element, picture, shortened, text, tooltip
from ..facts import RunFacts
from ..section import Section

LEFT, RIGHT, CELL = 260, 740, 26
SHARED, REST = "all models", "the rest"


@dataclass(frozen=True)
class Row:
    """The values of one parameter for one model and filter, over depth."""

    name: str
    values: tuple[float, ...]


def section(facts: RunFacts) -> Section:
    """Return the section about the winner, or about the best trial so far."""
    trial = facts.winner
    content = {"label": "", "method": "", "yaml": "", "maps": [], "reference": facts.recipe is not None}
    if trial is not None:
        written = facts.recipe or trial.recipe.to_yaml()
        recipe = trial.recipe if facts.recipe is None else parse_recipe(written, where="best.yaml")
        content |= {"label": trial.label, "method": recipe.merge_method, "yaml": written}
        content["maps"] = [(name, _heat_map(name, rows)) for name, rows in _parameters(trial.recipe).items()]
    return Section("recipe", "The recipe", content)


def _parameters(recipe: Recipe) -> Mapping[str, Sequence[Row]]:
    """Return the rows of each numeric parameter. A recipe of slices has a row per source of a slice."""
    found: dict[str, list[Row]] = {}
    sources: list[tuple[str, Source]] = [(source.model, source) for source in recipe.models]
    for part in recipe.slices:
        for source in part.sources:
            start, stop = source.layer_range or (0, 0)
            sources.append((f"{source.model} {start}:{stop}", source))
    for name, source in sources:
        for parameter, setting in source.parameters.items():
            found.setdefault(parameter, []).extend(_rows(name, setting))
    for parameter, setting in recipe.parameters.items():
        found.setdefault(parameter, []).extend(_rows(SHARED, setting))
    return {name: rows for name, rows in found.items() if rows}


def _rows(name: str, setting: Setting) -> Iterator[Row]:
    several = len(setting.rules) > 1
    for rule in setting.rules:
        if not any(isinstance(value, bool) for value in rule.values):
            yield Row(f"{name} · {rule.filter or REST}" if several else name, tuple(map(float, rule.values)))


def _heat_map(name: str, rows: Sequence[Row]) -> Markup:
    """Return a grid with a row per model and filter, and a column per knot of the gradient over depth."""
    columns = max(len(row.values) for row in rows)
    width = min(90.0, (RIGHT - LEFT) / columns)
    most = max((abs(value) for row in rows for value in row.values), default=0.0) or 1.0
    parts: list[Markup] = []
    top = 20 if columns > 1 else 4
    for i in range(columns if columns > 1 else 0):
        depth = f"{i / (columns - 1):.0%}"
        parts.append(text(LEFT + (i + 0.5) * width, 13, depth, class_="tick", text_anchor="middle"))
    for r, row in enumerate(rows):
        y = top + r * CELL
        parts.append(
            text(LEFT - 8, y + CELL / 2 + 4, shortened(row.name, LEFT - 12), class_="label", text_anchor="end")
        )
        for i, value in enumerate(row.values):
            span = width if len(row.values) > 1 else width * columns
            parts += _cell(LEFT + i * width, y, span, value, most, f"{row.name}: {name} {value:.4f}")
    return picture(RIGHT + 20, top + len(rows) * CELL + 4, f"Heat map of {name}", parts)


def _cell(x: float, y: float, width: float, value: float, most: float, title: str) -> Iterator[Markup]:
    shade = abs(value) / most
    fill = "heat negative" if value < 0 else "heat"
    yield element(
        "rect", *tooltip(title), x=x, y=y, width=width - 2, height=CELL - 2, class_=fill, fill_opacity=f"{shade:.2f}"
    )
    ink = "inverse" if shade > 0.55 else "label"
    yield text(x + width / 2 - 1, y + CELL / 2 + 4, label(round(value, 3)), class_=ink, text_anchor="middle")

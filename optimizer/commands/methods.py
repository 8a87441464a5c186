"""`mergesmith methods`: lists the merge methods and their parameters."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from ...merge_ops import METHODS, MergeMethod, Parameter

COLUMNS = ("parameter", "per", "default", "legal", "searched", "meaning")


def print_methods(console: Console) -> None:
    """Print one table per merge method, with a row per parameter."""
    for method in METHODS.values():
        console.print(_table(method))


def _table(method: MergeMethod) -> Table:
    beyond = "" if method.mergekit else " (not in mergekit)"
    table = Table(title=f"{method.name}{beyond}: {method.summary}\n{method.paper}", title_justify="left")
    for column in COLUMNS:
        table.add_column(column)
    for parameter in method.parameters:
        table.add_row(*_row(parameter))
    return table


def _row(parameter: Parameter) -> tuple[str, ...]:
    p = parameter
    default = "required" if p.required else str(p.default).lower() if p.default is not None else "none"
    legal = "true, false" if p.kind is bool else f"[{p.low:g}, {p.high:g}]"
    legal += " whole" if p.kind is int else ""
    searched = f"[{p.search.low:g}, {p.search.high:g}]" if p.search else ""
    meaning = p.doc if p.effect else f"no effect: {p.doc}"
    meaning += "" if p.mergekit else " (not in mergekit)"
    return p.name, p.scope.value.replace("_", "-"), default, legal, searched, meaning

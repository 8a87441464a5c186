"""`mergesmith methods`: lists the merge methods and their parameters."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from ...merge_ops import METHODS, MergeMethod, Parameter, get_method

COLUMNS = ("parameter", "per", "default", "legal", "searched", "meaning")


def print_methods(console: Console, name: str | None = None) -> None:
    """Print a line per merge method; or the table of one, with a row per parameter.

    Raises:
        UserError: there is no method of that name.
    """
    if name is not None:
        console.print(_table(get_method(name)))
        return
    table = Table(title="Merge methods; for the parameters of one: mergesmith methods NAME", title_justify="left")
    for column in ("method", "parameters", "summary"):
        table.add_column(column)
    for method in METHODS.values():
        names = ", ".join(parameter.name for parameter in method.parameters if parameter.effect)
        table.add_row(method.name, names, method.summary + ("" if method.mergekit else " (not in mergekit)"))
    console.print(table)


def methods_document(name: str | None = None) -> list[dict[str, Any]]:
    """Return the declarations of all methods, or of one; unlimited bounds are None.

    Raises:
        UserError: there is no method of that name.
    """
    chosen = METHODS.values() if name is None else [get_method(name)]
    return [
        {
            "name": method.name,
            "summary": method.summary,
            "paper": method.paper,
            "base": method.base.value,
            "random": method.random,
            "mergekit": method.mergekit,
            "parameters": [_parameter(parameter) for parameter in method.parameters],
        }
        for method in chosen
    ]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        **asdict(parameter),
        "scope": parameter.scope.value,
        "kind": parameter.kind.__name__,
        "search": None if parameter.search is None else [parameter.search.low, parameter.search.high],
    }


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

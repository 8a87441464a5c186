"""The commands that read: runs that are there, and the methods. `cli.py` takes them in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from mergesmith.errors import UserError

readers = typer.Typer(rich_markup_mode=None)
RunFolder = Annotated[Path, typer.Argument(help="A run's folder.")]


def make_console() -> Console:
    """Where commands print their results."""
    console = Console()
    # Piped output is read by programs and logs: tables must not be cut to a terminal's 80 columns.
    return console if console.is_terminal else Console(width=max(console.width, 140))


@readers.command()
def status(run_dir: RunFolder) -> None:
    """Show how a run goes, whether another shell works on it or nobody does any more."""
    from .status import print_status, read_status

    print_status(read_status(run_dir, time.time()), make_console())


@readers.command()
def export(
    run_dir: RunFolder,
    out: Annotated[Path | None, typer.Argument(help="Same as --output.", show_default=False)] = None,
    trial: Annotated[int | None, typer.Option(help="A trial's number; the winner if not given.")] = None,
    output: Annotated[Path | None, typer.Option(help="The file to write; a recipe is printed if not given.")] = None,
    form: Annotated[
        Literal["recipe", "task-vector"],
        typer.Option("--as", help="The recipe; or a folder of merged weights with a recipe that mergekit can run."),
    ] = "recipe",
) -> None:
    """Write the recipe of any trial of a run."""
    from ..run_folder.atomic_files import write_text
    from .export import export_task_vector, exported_recipe

    target = output or out
    if form == "task-vector":
        if target is None:
            raise UserError("--as task-vector writes a folder: name it after the run, or with --output")
        print(f"wrote {export_task_vector(run_dir, trial, target)}; mergekit-yaml and mergesmith merge run it")
        return
    text = exported_recipe(run_dir, trial)
    if target is None:
        print(text, end="")
    else:
        write_text(target, text)


@readers.command()
def items(
    run_dir: RunFolder,
    part: Annotated[Literal["search", "select", "report"], typer.Option(help="Which items.")] = "search",
    most: Annotated[int, typer.Option(min=0, help="How many telling items to name per task.")] = 5,
) -> None:
    """Which items tell a run's candidates apart, from the recorded scores."""
    from ..run_folder.item_matrix import ItemMatrix
    from ..run_folder.run_folder import RunFolder
    from ..terminal.tables import items_table

    matrix = ItemMatrix.load(RunFolder.open(run_dir), part)
    if not matrix.ids:
        raise UserError(f"{run_dir} has no scores per item on the {part} items yet")
    make_console().print(items_table(matrix, most))


@readers.command()
def methods() -> None:
    """List the merge methods, their parameters and what a search tries."""
    from ...merge_ops import METHODS

    console = make_console()
    for method in METHODS.values():
        beyond = "" if method.mergekit else " (not in mergekit)"
        table = Table(title=f"{method.name}{beyond}: {method.summary}\n{method.paper}", title_justify="left")
        for column in ("parameter", "per", "default", "legal", "searched", "meaning"):
            table.add_column(column)
        for p in method.parameters:
            default = "required" if p.required else str(p.default).lower() if p.default is not None else "none"
            legal = "true, false" if p.kind is bool else f"[{p.low:g}, {p.high:g}]"
            legal += " whole" if p.kind is int else ""
            searched = f"[{p.search.low:g}, {p.search.high:g}]" if p.search else ""
            meaning = p.doc if p.effect else f"no effect: {p.doc}"
            meaning += "" if p.mergekit else " (not in mergekit)"
            table.add_row(p.name, p.scope.value.replace("_", "-"), default, legal, searched, meaning)
        console.print(table)

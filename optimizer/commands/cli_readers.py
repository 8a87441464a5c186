"""Declares the commands that only read: those on existing runs, and `methods`. `cli.py` includes them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..terminal.console import make_console

readers = typer.Typer(rich_markup_mode=None)
RunFolder = Annotated[Path, typer.Argument(help="A run's folder.")]


@readers.command()
def status(run_dir: RunFolder) -> None:
    """Show the progress of a run, running or stopped."""
    from .status import print_status, read_status

    print_status(read_status(run_dir, time.time()), make_console())


@readers.command()
def export(
    run_dir: RunFolder,
    out: Annotated[Path | None, typer.Argument(help="Same as --output.", show_default=False)] = None,
    trial: Annotated[int | None, typer.Option(help="Number of a trial; default: the winner.")] = None,
    output: Annotated[Path | None, typer.Option(help="The file to write; default: print the recipe.")] = None,
    form: Annotated[
        Literal["recipe", "task-vector"],
        typer.Option("--as", help="The recipe, or a folder of merged weights with a recipe that mergekit can run."),
    ] = "recipe",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that a checkpoint contains.")
    ] = False,
) -> None:
    """Write the recipe of any trial of a run."""
    from .export import run_export

    run_export(run_dir, trial, output or out, form=form, trust_remote_code=trust_remote_code)


@readers.command()
def items(
    run_dir: RunFolder,
    part: Annotated[Literal["search", "select", "report"], typer.Option(help="The part of the items.")] = "search",
    most: Annotated[int, typer.Option(min=0, help="Number of items to list per task.")] = 5,
) -> None:
    """Show which items separate a run's candidates, from the recorded scores."""
    from .items import print_items

    print_items(run_dir, part, most, make_console())


@readers.command()
def report(
    run_dir: RunFolder,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The HTML file to write; default: report.html in the run's folder."),
    ] = None,
    with_texts: Annotated[
        bool, typer.Option("--with-texts", help="Show prompts and answers of items that the winner won and lost.")
    ] = False,
) -> None:
    """Write the result of a run, finished or not, as one HTML page."""
    from .report import run_report

    print(f"wrote {run_report(run_dir, output, with_texts=with_texts)}")


@readers.command()
def methods() -> None:
    """List the merge methods, their parameters and the searched ranges."""
    from .methods import print_methods

    print_methods(make_console())

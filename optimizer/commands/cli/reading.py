"""Declares the commands that only read: those on existing runs, and `methods`. `main.py` includes them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from ...terminal.console import make_console, print_json
from .arguments import Json, RunDir

readers = typer.Typer(rich_markup_mode=None)


@readers.command()
def status(run_dir: RunDir, as_json: Json = False) -> None:
    """Show the progress of a run, running or stopped."""
    from ..status import print_status, read_status

    found = read_status(run_dir, time.time())
    if as_json:
        print_json(found.to_document())
    else:
        print_status(found, make_console())


@readers.command()
def trials(
    run_dir: RunDir,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values, with all parameters.")] = False,
    as_json: Json = False,
) -> None:
    """List the finished trials of a run."""
    from ..trials import print_csv, print_trials, trial_rows

    if as_json:
        print_json(trial_rows(run_dir))
    elif as_csv:
        print_csv(trial_rows(run_dir))
    else:
        print_trials(run_dir, make_console())


@readers.command()
def export(
    run_dir: RunDir,
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
    from ..export import run_export

    run_export(run_dir, trial, output or out, form=form, trust_remote_code=trust_remote_code)


@readers.command()
def items(
    run_dir: RunDir,
    part: Annotated[Literal["search", "select", "report"], typer.Option(help="The part of the items.")] = "search",
    most: Annotated[int, typer.Option(min=0, help="Number of items to list per task.")] = 5,
    as_json: Json = False,
) -> None:
    """Show which items separate a run's candidates, from the recorded scores."""
    from ..items import items_document, print_items

    if as_json:
        print_json(items_document(run_dir, part))
    else:
        print_items(run_dir, part, most, make_console())


@readers.command()
def report(
    run_dir: RunDir,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The HTML file to write; default: report.html in the run's folder."),
    ] = None,
    with_texts: Annotated[
        bool, typer.Option("--with-texts", help="Show prompts and answers of items that the winner won and lost.")
    ] = False,
) -> None:
    """Write the result of a run, finished or not, as one HTML page."""
    from ..report import run_report

    print(f"wrote {run_report(run_dir, output, with_texts=with_texts)}")


@readers.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="A method, for its parameters; default: all.")] = None,
    as_json: Json = False,
) -> None:
    """List the merge methods, or the parameters of one and their searched ranges."""
    from ..methods import methods_document, print_methods

    if as_json:
        print_json(methods_document(name))
    else:
        print_methods(make_console(), name)

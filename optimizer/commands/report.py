"""`mergesmith report`: writes the result of a run as one HTML page."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mergesmith.errors import UserError

from ..report.page import write_report
from ..run_folder.file_names import REPORT, is_run
from ..terminal.console import print_warnings


def run_report(path: Path, output: Path | None, *, with_texts: bool = False) -> Path:
    """Write the report of a run and return the file.

    Raises:
        UserError: the folder holds no run, a file of it is damaged, or the report cannot be written.
    """
    if not is_run(path):
        raise UserError(f"{path} holds no run")
    target = output or path / REPORT
    try:
        write_report(path, target, with_texts=with_texts)
    except UserError as error:
        if output is None and f"{target} cannot be written" in str(error):
            raise UserError(f"{target} cannot be written; name another file with --output") from error
        raise
    return target


def print_report(path: Path, console: Console) -> None:
    """Write the report of a search that has ended and print its path; a failure is only printed."""
    try:
        console.print(f"Report: {run_report(path, None)}", highlight=False, markup=False, soft_wrap=True)
    except Exception as error:  # the search's result is on disk, whatever is wrong with its picture
        print_warnings([f"the report was not written: {type(error).__name__}: {error}"])

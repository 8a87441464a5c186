"""`mergesmith items`: shows which items separate a run's candidates."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mergesmith.errors import UserError

from ...evaluators import Part
from ..run_folder.item_matrix import ItemMatrix
from ..run_folder.run_folder import RunFolder
from ..terminal.tables import items_table


def print_items(path: Path, part: Part, most: int, console: Console) -> None:
    """Print how well the items of a part separate the candidates, naming the `most` best ones per task.

    Raises:
        UserError: there is no run, or no candidate was scored on the part.
    """
    matrix = ItemMatrix.load(RunFolder.open(path), part)
    if not matrix.ids:
        raise UserError(f"{path} has no scores per item on the {part} items yet")
    console.print(items_table(matrix, most))

"""`mergesmith demo`: trains a tiny zoo of models and searches for their best merge."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ..demo import make_demo
from ..run_folder.file_names import CONFIG
from ..session.options import Options
from .inputs.overrides import Overrides
from .search import run_search


def run_demo(folder: Path, *, trials: int | None, threads: int, console: Console) -> None:
    """Make the demo in a folder, or reuse it there, search, and print which commands to try next."""
    search = make_demo(folder, threads=threads, log=lambda text: console.print(text, highlight=False))
    run = folder / "runs" / "demo"
    resume = (run / CONFIG).is_file()
    run_search(search, resume=resume, overrides=Overrides(trials=trials), options=Options(), console=console)
    console.print(f"Next: mergesmith verify {run}/best.yaml", highlight=False, soft_wrap=True)
    console.print(f"      mergesmith merge {run}/best.yaml {folder}/merged", highlight=False, soft_wrap=True)

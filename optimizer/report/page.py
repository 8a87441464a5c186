"""Draws the page of a run from its facts, with the same bytes for the same run."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..run_folder.atomic_files import write_text
from .facts import RunFacts, gather
from .sections import (
    economy,
    headline,
    history,
    intervals,
    limits,
    matrix,
    parameters,
    recipe,
    trade_offs,
    won_and_lost,
)

TEMPLATES = Path(__file__).parent / "templates"
SECTIONS = (headline, intervals, won_and_lost, limits, history, recipe, parameters, matrix, trade_offs, economy)


def write_report(path: Path, target: Path, *, with_texts: bool = False) -> None:
    """Write the report of a run.

    Args:
        path: the run's folder.
        target: the HTML file to write.
        with_texts: show prompts and answers of items.

    Raises:
        UserError: the folder holds no run, a file of it is damaged, or the target cannot be written.
    """
    write_text(target, page(gather(path, with_texts=with_texts)))


def page(facts: RunFacts) -> str:
    """Return the page as HTML."""
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    sections = [module.section(facts) for module in SECTIONS]
    return templates.get_template("page.html").render(name=facts.name, sections=sections)

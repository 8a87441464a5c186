"""Declares the commands with which a search begins: `init`, `schema`, `import`. `main.py` includes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mergesmith.errors import UserError

starters = typer.Typer(rich_markup_mode=None)
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file.")]


@starters.command()
def init(
    base: Annotated[str | None, typer.Argument(help="The base model: a folder or hub id.", show_default=False)] = None,
    models: Annotated[list[str] | None, typer.Argument(help="Fine-tunes of it.", show_default=False)] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="An lm-eval task; may be repeated.")] = None,
    task_path: Annotated[list[str] | None, typer.Option(help="A folder with your task YAML; may be repeated.")] = None,
    trials: Annotated[int, typer.Option(min=0, help="Number of candidates to propose.")] = 100,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("search.yaml"),
    interactive: Annotated[bool, typer.Option("--interactive", help="Ask for what is not given.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a commented search.yaml for some models and tasks."""
    names, tasks = models or [], task or []
    if interactive:
        base = base or typer.prompt("Base model (folder or hub id)")
        names = names or typer.prompt("Fine-tunes, separated by spaces").split()
        tasks = tasks or typer.prompt("lm-eval tasks, separated by spaces").split()
        trials = typer.prompt("Candidates to propose", default=trials, type=int)
    missing = [name for name, given in (("BASE", base), ("MODEL", names), ("--task", tasks)) if not given]
    if base is None or missing:
        raise UserError(
            f"init: {' and '.join(missing)} missing: mergesmith init BASE MODEL... --task NAME; --interactive asks"
        )
    from ...start.template import Start, write_search

    path = write_search(output, Start(base, names, tasks, task_path or (), trials), overwrite=overwrite)
    print(f"wrote {path}. Next: mergesmith plan {path}, then mergesmith search {path}")


@starters.command()
def schema() -> None:
    """Print the JSON schema of search.yaml, for editors."""
    from ...start.schema import schema_text

    print(schema_text(), end="")


@starters.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="A configuration of mergekit-evolve.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file to write; default: print it.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Turn a configuration of mergekit-evolve into a search.yaml."""
    from ...start.evolve import read_evolve
    from ...start.schema import editor_line

    imported = read_evolve(file)
    if output is None:
        print(imported.to_yaml(), end="")
        return
    if output.exists() and not overwrite:
        raise UserError(f"{output} exists; name another file with -o, or pass --overwrite")
    output.write_text(f"{editor_line(output.parent)}\n{imported.to_yaml()}", encoding="utf-8")
    print(f"wrote {output}. What differs from {file}:")
    for note in imported.notes:
        print(f"  - {note}")

"""The commands of the command line, from the Typer application."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import typer.core

from mergesmith.optimizer.commands import cli


def lines() -> Iterator[str]:
    """Yield one section per command."""
    group: Any = typer.main.get_command(cli.app)
    for name, command in sorted(group.commands.items()):
        shown = [p for p in command.params if p.name != "help" and not getattr(p, "hidden", False)]
        arguments = " ".join(_metavar(p) for p in shown if _is_argument(p))
        options = " [OPTIONS]" if not all(_is_argument(p) for p in shown) else ""
        yield from (f"## mergesmith {name}", "", command.help or "", "")
        yield from ("```text", " ".join(f"mergesmith {name} {arguments}".split()) + options, "```", "")
        if shown:
            yield from ("| argument or option | default | meaning |", "| --- | --- | --- |")
            yield from (_row(parameter) for parameter in shown)
            yield ""


def _is_argument(parameter: Any) -> bool:
    return isinstance(parameter, typer.core.TyperArgument)


def _metavar(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _row(parameter: Any) -> str:
    forms = [_metavar(parameter)] if _is_argument(parameter) else [*parameter.opts, *parameter.secondary_opts]
    name = ", ".join(f"`{form}`" for form in forms)
    if choices := _choices(parameter):
        name += ": " + ", ".join(f"`{choice}`" for choice in choices)
    default = "required" if parameter.required else _default(parameter)
    return f"| {name} | {default} | {parameter.help or ''} |"


def _choices(parameter: Any) -> tuple[Any, ...]:
    """Return the values that a parameter may take; none if they are not listed."""
    annotation = parameter.type_descriptor.annotation
    return typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()


def _default(parameter: Any) -> str:
    if parameter.default is None or parameter.default is False:
        return ""
    return f"`{parameter.opts[0] if parameter.default is True else parameter.default}`"

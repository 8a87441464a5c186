"""Describes the faults of a search.yaml: where they are, and where a misplaced key belongs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from mergesmith.errors import unknown

from ..evaluators import TaskConfig

ONE_AS_BASE = "without a common base, name one of the fine-tunes under base_model and only the others under models"


def described(fault: Any, config: type[BaseModel]) -> tuple[str, str]:
    """Return the key path of a pydantic error, and its message; `config` is the class of the whole file."""
    location = [str(part) for part in fault["loc"]]
    place = ".".join(location)
    if fault["type"] == "extra_forbidden":
        known, key = _keys(config, location[:-1]), location[-1]
        homes = [name for name, keys in _sections(config).items() if key in keys and key not in known]
        if homes:
            return place, f"'{key}' belongs {' or '.join(homes)}"
        return place, unknown("key", key, known)
    if fault["type"] == "missing":
        return place, "is missing" + (f"; {ONE_AS_BASE}" if place == "base_model" else "")
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "too_short":
        return place, "must have at least one entry"
    value = fault.get("input")
    shows_value = isinstance(value, dict) or message.startswith("unknown ") or ", but is " in message
    return place, message if shows_value else f"{message}, but is {value!r}"


def _sections(config: type[BaseModel]) -> dict[str, list[str]]:
    """Return the keys of every section, by a description of its place."""
    names = ("chat", "split", "space", "search", "scoring", "workers")
    places = {f"under {name}:": _keys(config, [name]) for name in names}
    return {"at the top level": _keys(config, []), **places, "to an entry of tasks:": _keys(config, ["tasks"])}


def _keys(config: type[BaseModel], location: list[str]) -> list[str]:
    """Return the known keys of the section at a location."""
    model: Any = config
    for part in location:
        if part == "tasks":
            model = TaskConfig
        elif not part.isdigit() and part in getattr(model, "model_fields", {}):
            model = model.model_fields[part].annotation
    return list(getattr(model, "model_fields", {}))

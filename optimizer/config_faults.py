"""Describes the faults of a search.yaml: where they are, and where a misplaced key belongs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from mergesmith.errors import unknown

from ..evaluators import TaskConfig

ONE_AS_BASE = "without a common base, name one of the fine-tunes under base_model and only the others under models"
PARAMETER = "give a number, [low, high], {range: [low, high], log: true} or {choices: [...]}"
# pydantic's kind of a fault -> the rule; {} is filled in from the fault's context.
RULES = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least one entry",
    "date_type": "must be a day such as 2026-01-31",
    "date_from_datetime_parsing": "must be a day such as 2026-01-31",
}


def described_faults(
    faults: Sequence[Any], config: type[BaseModel], document: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield the key path and the message of every pydantic error of a document; `config` is its class.

    A list that counts as empty only because its entries are at fault is left out. Tasks are given by name.
    """
    for fault in faults:
        inside = (other["loc"] for other in faults if other["loc"] != fault["loc"])
        spurious = fault["type"] == "too_short" and any(loc[: len(fault["loc"])] == fault["loc"] for loc in inside)
        if not spurious:
            place, message = _described(fault, config)
            yield _with_name(place, fault["loc"], document), message


def _described(fault: Any, config: type[BaseModel]) -> tuple[str, str]:
    """Return the key path of a pydantic error, and its message."""
    location = [str(part) for part in fault["loc"]]
    place = ".".join(part for i, part in enumerate(location) if not _is_implied(location, i))
    if fault["type"] == "extra_forbidden":
        known, key = _keys(config, location[:-1]), location[-1]
        homes = [name for name, keys in _sections(config).items() if key in keys and key not in known]
        if homes:
            return place, f"'{key}' belongs {' or '.join(homes)}"
        return place, unknown("key", key, known) if known else f"unknown key '{key}'; {PARAMETER}"
    if fault["type"] == "missing":
        return place, "is missing" + (f"; {ONE_AS_BASE}" if place == "base_model" else "")
    value = fault.get("input")
    if location[:2] == ["space", "methods"] and fault["type"] in ("model_type", "too_long"):
        return place, f"{PARAMETER}, but it is {value!r}"
    if fault["type"] == "too_short":
        return place, RULES["too_short"]
    rule = RULES.get(fault["type"])
    message = rule.format(**fault.get("ctx", {})) if rule else fault["msg"].removeprefix("Value error, ")
    shows_value = isinstance(value, dict) or message.startswith("unknown ") or " is [" in message
    return place, message if shows_value or ", but is " in message else f"{message}, but is {value!r}"


def _is_implied(location: Sequence[str], i: int) -> bool:
    """Whether a part of a key path is not written in the file: `parameters` between a method and its parameter."""
    return i == 3 and location[i] == "parameters" and location[:2] == ["space", "methods"]


def _with_name(place: str, location: Sequence[Any], document: dict[str, Any]) -> str:
    """Return the place with the name of the task instead of its index."""
    if len(location) < 2 or location[0] != "tasks" or not isinstance(location[1], int):
        return place
    entry = document["tasks"][location[1]]
    name = entry.get("name") if isinstance(entry, dict) else entry
    return ".".join(["tasks", name, *map(str, location[2:])]) if isinstance(name, str) and name else place


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

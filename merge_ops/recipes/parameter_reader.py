"""Reads `parameters:` mappings (scalars, gradients, `{filter, value}` rules) and checks them for a method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from mergesmith.errors import Faults

from ..methods import METHODS, MergeMethod, Parameter, Scope
from .blocks import Number, Parameters, Rule, Setting, Slice, Source
from .hints import unknown_parameter

Report = Callable[[str, str], None]  # (place, message)
TRUE, FALSE = ("true", "yes", "on"), ("false", "no", "off")


class ParameterReader:
    """Reads the parameters of one recipe, reporting to its reader's `faults`, `warn` and `unknown_key`."""

    def __init__(self, method: MergeMethod, faults: Faults, warn: Report, unknown_key: Report) -> None:
        self.method, self.faults, self.warn, self.unknown_key = method, faults, warn, unknown_key

    def read(self, document: Any, place: str) -> Parameters:
        """Return the settings of a `parameters:` mapping at a level that all inputs share."""
        if document is None:
            return {}
        if not isinstance(document, dict):
            self.faults.add(place, f"must be a mapping from parameter to value, but is {type(document).__name__}")
            return {}
        return dict(self._settings(document, place))

    def read_source(self, document: Any, place: str, *, is_base: bool) -> Parameters:
        """Return the settings under one source, with a warning for those that have no effect there."""
        settings = self.read(document, place)
        for name in settings:
            parameter = self.method.parameter(name)
            if parameter is None or not parameter.effect:
                continue
            if parameter.scope is Scope.TENSOR:
                self.warn(
                    f"{place}.{name}",
                    f"has no effect under a model: {name} is shared by all models; set it at an upper level",
                )
            elif parameter.scope is Scope.NON_BASE and is_base:
                self.warn(f"{place}.{name}", "has no effect on the base model")
        return settings

    def _settings(self, document: dict[Any, Any], place: str) -> Iterator[tuple[str, Setting]]:
        for name, value in document.items():
            path = f"{place}.{name}"
            parameter = self.method.parameter(str(name))
            if parameter is None:
                if any(method.parameter(str(name)) for method in METHODS.values()):
                    self.warn(path, f"has no effect: {self.method.name} has no such parameter")
                else:
                    known = [p.name for p in self.method.parameters]
                    self.unknown_key(path, unknown_parameter(name, known))
                continue
            if not parameter.effect:
                self.warn(path, f"has no effect on the result of {self.method.name}")
            setting = self._setting(value, parameter, path)
            if setting is not None:
                yield parameter.name, setting

    def _setting(self, value: Any, parameter: Parameter, place: str) -> Setting | None:
        if value is None:
            return None
        if isinstance(value, dict):
            value = [value]
        if isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
            rules = [self._rule(entry, parameter, f"{place}[{i}]") for i, entry in enumerate(value)]
        else:
            rules = [Rule(self._values(value, parameter, place))]
        # A faulty value is still given: it must not be reported as missing too.
        return Setting(tuple(rule for rule in rules if rule is not None and rule.values))

    def _rule(self, entry: Any, parameter: Parameter, place: str) -> Rule | None:
        if not isinstance(entry, dict) or "value" not in entry or set(entry) - {"filter", "value"}:
            self.faults.add(place, f"must be a mapping with value and optionally filter, but is {entry!r}")
            return None
        pattern = entry.get("filter")
        if pattern is not None and (not isinstance(pattern, str) or not pattern):
            self.faults.add(f"{place}.filter", f"must be part of a tensor name, but is {pattern!r}")
            return None
        return Rule(self._values(entry["value"], parameter, f"{place}.value"), None if pattern == "*" else pattern)

    def _values(self, value: Any, parameter: Parameter, place: str) -> tuple[Number, ...]:
        if not isinstance(value, list):
            number = self._number(value, parameter, place)
            return () if number is None else (number,)
        if not value:
            self.faults.add(place, "the list of values is empty; give at least one")
            return ()
        if parameter.kind is bool and len(value) > 1:
            self.faults.add(place, f"{parameter.name} is a switch and cannot be a gradient")
            return ()
        if parameter.kind is int and len(value) > 1:
            self.faults.add(place, f"{parameter.name} is a whole number and cannot be a gradient")
            return ()
        numbers = [self._number(entry, parameter, f"{place}[{i}]") for i, entry in enumerate(value)]
        return tuple(number for number in numbers if number is not None)

    def _number(self, value: Any, parameter: Parameter, place: str) -> Number | None:
        number = _as_bool(value) if parameter.kind is bool else _as_float(value)
        if number is None:
            want = "true or false" if parameter.kind is bool else "a finite number"
            self.faults.add(place, f"{parameter.name} must be {want}, but is {value!r}")
        elif parameter.kind is int and number != int(number):
            self.faults.add(place, f"{parameter.name} must be a whole number, but is {value!r}")
        elif not parameter.low <= number <= parameter.high:
            law = f"[{parameter.low:g}, {parameter.high:g}]"
            self.faults.add(place, f"{parameter.name} must lie in {law}, but is {value!r}")
        return number

    def check_required(
        self, models: tuple[Source, ...], slices: tuple[Slice, ...], top: Parameters, base: str | None
    ) -> None:
        """Record a fault for every required parameter that some input lacks at all levels."""
        groups = [("models", models, (), base)] if models else []
        groups += [
            (f"slices[{i}].sources", s.sources, (s.parameters,), s.base_model or base) for i, s in enumerate(slices)
        ]
        for parameter in (p for p in self.method.parameters if p.required):
            for place, sources, levels, group_base in groups:
                if any(parameter.name in level for level in (*levels, top)):
                    continue
                if parameter.scope is Scope.TENSOR:
                    self.faults.add(f"parameters.{parameter.name}", f"is missing; {self.method.name} needs it")
                    continue
                for i, source in enumerate(sources):
                    needed = parameter.scope is Scope.INPUT or source.model != group_base
                    if needed and parameter.name not in source.parameters:
                        self.faults.add(
                            f"{place}[{i}].parameters.{parameter.name}",
                            f"is missing; {self.method.name} needs it for every model",
                        )


def _as_float(value: Any) -> float | None:
    if not isinstance(value, (bool, int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _as_bool(value: Any) -> bool | None:
    if isinstance(value, str):
        return True if value.lower() in TRUE else False if value.lower() in FALSE else None
    return bool(value) if isinstance(value, (bool, int, float)) and value in (0, 1) else None

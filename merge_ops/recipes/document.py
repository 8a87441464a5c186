"""Converts the blocks of a recipe to the plain mappings and lists of its YAML form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from .blocks import Parameters, Rule, Setting, Slice, Source


class Dumper(yaml.SafeDumper):
    """Dumps floats so that they are read back with the same bits, by YAML 1.1 too (which needs '1.0e-05')."""


def _dump_float(dumper: yaml.SafeDumper, value: float) -> yaml.Node:
    text = repr(value)
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    if text in ("inf", "-inf", "nan"):
        text = text.replace("inf", ".inf").replace("nan", ".nan")
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


Dumper.add_representer(float, _dump_float)


def inputs_document(models: Sequence[Source], slices: Sequence[Slice], parameters: Parameters) -> dict[str, Any]:
    """Return the models or slices and the parameters of a recipe or module as a mapping."""
    document: dict[str, Any] = {}
    if models:
        document["models"] = [_source_document(source) for source in models]
    if slices:
        document["slices"] = [_slice_document(part) for part in slices]
    if parameters:
        document["parameters"] = _parameters_document(parameters)
    return document


def _source_document(source: Source) -> dict[str, Any]:
    document: dict[str, Any] = {"model": source.model}
    if source.layer_range is not None:
        document["layer_range"] = list(source.layer_range)
    if source.parameters:
        document["parameters"] = _parameters_document(source.parameters)
    return document


def _slice_document(part: Slice) -> dict[str, Any]:
    document: dict[str, Any] = {"sources": [_source_document(source) for source in part.sources]}
    if part.base_model is not None:
        document["base_model"] = part.base_model
    if part.parameters:
        document["parameters"] = _parameters_document(part.parameters)
    return document


def _parameters_document(parameters: Parameters) -> dict[str, Any]:
    return {name: _setting_document(setting) for name, setting in sorted(parameters.items())}


def _setting_document(setting: Setting) -> object:
    def value(rule: Rule) -> object:
        return rule.values[0] if len(rule.values) == 1 else list(rule.values)

    if len(setting.rules) == 1 and setting.rules[0].filter is None:
        return value(setting.rules[0])
    return [
        {"value": value(rule)} if rule.filter is None else {"filter": rule.filter, "value": value(rule)}
        for rule in setting.rules
    ]

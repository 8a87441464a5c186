"""Checks the number of models in a recipe, and its base model, against what the method requires."""

from __future__ import annotations

from mergesmith.errors import Faults

from ..methods import Base, MergeMethod
from .blocks import Module


def check_contract(faults: Faults, method: MergeMethod, inputs: Module, base: str | None, prefix: str = "") -> None:
    """Record faults of the models or slices of a recipe or module; `prefix` is the module's key path with a dot."""
    groups = [(f"{prefix}models", inputs.models, base)] if inputs.models else []
    groups += [
        (f"{prefix}slices[{i}]", part.sources, part.base_model or base)
        for i, part in enumerate(inputs.slices)
        if part.sources
    ]
    for place, sources, group_base in groups:
        names = [source.model for source in sources]
        for name in dict.fromkeys(n for n in names if names.count(n) > 1):
            faults.add(place, f"'{name}' is listed twice; list each model once")
        if method.base is Base.REQUIRED and group_base is None:
            faults.add("base_model", f"is missing; {method.name} needs one, which may be one of the models")
            continue
        listed = group_base is None or group_base in names
        if not listed and inputs.models and method.base is not Base.IGNORED:
            names.append(str(group_base))
        elif not listed and method.base is not Base.IGNORED:
            faults.add(place, f"the base model '{group_base}' must be one of the slice's sources, with its layer_range")
        elif not listed and inputs.models:
            faults.add(
                "base_model",
                f"{method.name} has no base: '{group_base}' would silently become an additional input. List it under "
                "models with its parameters, or remove base_model",
            )
        uncounted = method.base is Base.OPTIONAL and group_base in names
        _count(faults, method, place, len(names) - uncounted)


def _count(faults: Faults, method: MergeMethod, place: str, inputs: int) -> None:
    low, high = method.min_inputs, method.max_inputs
    if inputs < low or (high is not None and inputs > high):
        law = f"exactly {low}" if low == high else f"at least {low}" if high is None else f"{low} to {high}"
        counted = {Base.REQUIRED: " (including the base model)", Base.OPTIONAL: " (not counting the base model)"}
        also = counted.get(method.base, "")
        faults.add(place, f"{method.name} takes {law} models{also}, but {inputs} are given")

"""The merge methods: one file per method or family, registered by being in this folder.

A file declares `METHODS`, a tuple of `MergeMethod`. Nothing else needs to be edited to add one. Code that methods share
is in base/.
"""

from __future__ import annotations

import importlib
import pkgutil

from mergesmith.errors import UserError, unknown

from .base.declaration import Base, MergeMethod, Parameter, ParameterValues, PlanError, Range, Scope, Statistics
from .base.plans import (
    AddDelta,
    Custom,
    Keep,
    KeepAll,
    KeepLargest,
    KeepRandom,
    KeepRanked,
    KeepWindow,
    LinearCombination,
    MaskedSum,
    Plan,
    RowCombination,
    SourceRule,
)

__all__ = [
    "METHODS",
    "AddDelta",
    "Base",
    "Custom",
    "Keep",
    "KeepAll",
    "KeepLargest",
    "KeepRandom",
    "KeepRanked",
    "KeepWindow",
    "LinearCombination",
    "MaskedSum",
    "MergeMethod",
    "Parameter",
    "ParameterValues",
    "Plan",
    "PlanError",
    "Range",
    "RowCombination",
    "Scope",
    "SourceRule",
    "Statistics",
    "get_method",
]


def _discover() -> dict[str, MergeMethod]:
    found: dict[str, MergeMethod] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for method in getattr(module, "METHODS", ()):
            if method.name in found:
                raise ValueError(f"two files in {__name__} declare the merge method '{method.name}'")
            found[method.name] = method
    return dict(sorted(found.items()))


METHODS: dict[str, MergeMethod] = _discover()


def get_method(name: str) -> MergeMethod:
    """Return the method of that name.

    Raises:
        UserError: no method has that name; the message suggests the nearest.
    """
    if name not in METHODS:
        raise UserError(unknown("merge method", name, METHODS))
    return METHODS[name]

"""The samplers, from the docstrings of their files."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

from mergesmith.optimizer.samplers import SAMPLERS


def lines() -> Iterator[str]:
    """Yield one section per sampler."""
    for name, make in SAMPLERS.items():
        module = importlib.import_module(make.__module__)
        yield from ("" if name == next(iter(SAMPLERS)) else "\n", f"## `{name}`", "", inspect.getdoc(module) or "")

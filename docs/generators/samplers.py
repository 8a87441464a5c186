"""The samplers, from the docstrings of their files."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

from mergesmith.optimizer import samplers


def lines() -> Iterator[str]:
    """Yield one section per sampler."""
    names = [info.name for info in pkgutil.iter_modules(samplers.__path__)]
    modules = [importlib.import_module(f"{samplers.__name__}.{name}") for name in names]
    docs = {module.NAME: inspect.getdoc(module) or "" for module in modules if hasattr(module, "NAME")}
    for i, name in enumerate(samplers.SAMPLERS):
        yield from ("\n" if i else "", f"## `{name}`", "", docs[name])

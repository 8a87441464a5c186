"""Python objectives: user functions of the model, called once per part."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mergesmith.errors import UserError, unknown

from ..config import Part
from ..records import ItemScores, ScoringError

WHOLE = "whole"


@dataclass(frozen=True)
class PythonObjective:
    """A loaded Python objective: `function(model, tokenizer, split) -> float | {item_id: float}`."""

    name: str
    function: Callable[[Any, Any, str], Any]
    digest: str

    def score(self, model: Any, tokenizer: Any, part: Part) -> ItemScores:
        """Call the function on one part and return its items; a bare float becomes one item named "whole".

        Raises:
            ScoringError: the function raised, or returned anything but finite numbers.
        """
        import torch

        try:
            with torch.no_grad():
                returned = self.function(model, tokenizer, part)
        except Exception as error:
            raise ScoringError(
                f"objective '{self.name}' ({part}) raised {type(error).__name__}: {error}{self._place(error)}"
            ) from error
        items = returned if isinstance(returned, Mapping) else {WHOLE: returned}
        if not items:
            raise ScoringError(f"objective '{self.name}' ({part}) returned no items")
        return self._checked(items, part)

    def _place(self, error: Exception) -> str:
        """Return the place in the function's file at which an error left it, or began; empty if unknown."""
        frames = traceback.extract_tb(error.__traceback__)
        file = getattr(getattr(self.function, "__code__", None), "co_filename", None)
        here = [frame for frame in frames if frame.filename == file]
        return f" ({here[-1].filename}, line {here[-1].lineno}: {here[-1].line})" if here else ""

    def _checked(self, items: Mapping[Any, Any], part: Part) -> ItemScores:
        values = []
        for key, value in items.items():
            try:
                number = float(value)
            except (TypeError, ValueError):
                raise ScoringError(
                    f"objective '{self.name}' ({part}) must return a float or a mapping of item ids to floats, "
                    f"but item '{key}' is {value!r}"
                ) from None
            if not math.isfinite(number):
                raise ScoringError(f"objective '{self.name}' ({part}): item '{key}' is {number}")
            values.append(number)
        return ItemScores(ids=tuple(str(key) for key in items), values=np.array(values, dtype=np.float64))


def load_objective(name: str, reference: str, *, root: Path) -> PythonObjective:
    """Load `./file.py:function` (relative to `root`) or `package.module:function`.

    Raises:
        UserError: the reference has no colon, or its file, module or function is missing or fails on import.
    """
    function = load_function(reference, root=root)
    try:
        source = inspect.getsource(inspect.getmodule(function) or function)
    except (TypeError, OSError):
        source = repr(reference)
    return PythonObjective(name=name, function=function, digest=hashlib.sha256(source.encode()).hexdigest())


def load_function(reference: str, *, root: Path) -> Callable[..., Any]:
    """Import the function that a reference `file.py:name` or `package.module:name` names.

    Raises:
        UserError: see `load_objective`.
    """
    source, colon, name = reference.rpartition(":")
    if not colon or not source or not name:
        raise UserError(f"'{reference}' must be './file.py:function' or 'package.module:function'")
    module = _from_file((root / source).resolve()) if source.endswith(".py") else _from_name(source, root)
    functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"'{source}': {unknown('function', name, functions)}")
    return function


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"there is no file '{path}'")
    # The path is part of the name, so two files called objectives.py do not shadow each other.
    name = f"mergesmith_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"'{path}' cannot be loaded as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before execution, as for any import: dataclasses and pickle look modules up by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"'{path}' fails on import: {type(error).__name__}: {error}") from error
    return module


def _from_name(name: str, root: Path) -> ModuleType:
    sys.path.insert(0, str(root))
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise UserError(f"module '{name}' cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(root))

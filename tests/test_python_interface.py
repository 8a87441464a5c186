"""The names that `import mergesmith` offers: complete, lazy, typed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest
from checkout import ROOT

import mergesmith as ms

HEAVY = {"torch", "transformers", "lm_eval", "optuna", "pandas", "pydantic", "numpy", "yaml", "rich"}


def test_every_name_can_be_imported_and_is_typed() -> None:
    tree = ast.parse((ROOT / "mergesmith" / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mergesmith")
        for alias in node.names
    }
    assert typed == set(ms.__all__)
    assert [name for name in ms.__all__ if getattr(ms, name) is None] == []
    assert set(ms.__all__) <= set(dir(ms))
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        _ = ms.serach  # type: ignore[attr-defined]


def test_importing_loads_nothing_heavy() -> None:
    """The limit is 0.3 s; processor time is measured, because other programs may run."""
    code = (
        "import sys, time; start = time.process_time(); import mergesmith; spent = time.process_time() - start\n"
        "print(spent, *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    spent, *modules = done.stdout.split()
    assert set(modules) & HEAVY == set()
    assert float(spent) < 0.3

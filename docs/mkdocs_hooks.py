"""Lets mkdocstrings read the package as it is installed: in a checkout its four folders lie beside `mergesmith/`."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority

ROOT = Path(__file__).resolve().parent.parent


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config: Any) -> Any:
    """Copy the package's Python files into one tree, and point mkdocstrings to it."""
    folder = Path(tempfile.mkdtemp(prefix="mergesmith-docs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for source in ("mergesmith", "merge_ops", "search_spaces", "evaluators", "optimizer"):
        target = folder / "mergesmith" / ("" if source == "mergesmith" else source)
        shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(folder)]
    return config

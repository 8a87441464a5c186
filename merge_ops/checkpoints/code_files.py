"""Finds the Python files of a checkpoint: those that `auto_map` in its configuration files names, and their imports."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .checkpoint_warning import CheckpointWarning

MODULE = re.compile(r"[\w-]+")  # entries with `--` before it name another repository, where the code is found
GENERATION_CODE = "custom_generate"  # a folder whose generate.py replaces the `generate` of a loaded model


def code_files(folder: Path, configurations: Sequence[str]) -> dict[str, Path]:
    """Return the path of each Python file that loading a folder with `trust_remote_code` needs, by relative name.

    `configurations` are names of JSON files in the folder; those that do not exist are skipped. A file that is named
    but missing is a warning.
    """
    found: dict[str, Path] = {}
    for configuration in configurations:
        for module in _modules(folder / configuration):
            if (folder / f"{module}.py").is_file():
                _collect(folder, f"{module}.py", found)
            else:
                text = f"{folder / configuration} names {module}.py in auto_map, which is not there nor in the output"
                warnings.warn(text, CheckpointWarning, stacklevel=3)
    return found


def generation_code(folder: Path) -> dict[str, Path]:
    """Return the files of a model's `custom_generate` folder by relative name."""
    files = sorted(path for path in (folder / GENERATION_CODE).glob("*") if path.suffix in (".py", ".txt"))
    return {str(path.relative_to(folder)): path for path in files}


def _modules(configuration: Path) -> list[str]:
    """Return the modules of the folder that the `auto_map` of a JSON file names, as in `module.Class`."""
    if not configuration.is_file():
        return []
    document = json.loads(configuration.read_text(encoding="utf-8"))
    auto_map: Any = document.get("auto_map") if isinstance(document, dict) else None
    entries = auto_map.values() if isinstance(auto_map, dict) else [auto_map]
    flat = [name for entry in entries for name in (entry if isinstance(entry, list) else [entry])]
    modules = (name.rpartition(".")[0] for name in flat if isinstance(name, str) and "--" not in name)
    return list(dict.fromkeys(module for module in modules if MODULE.fullmatch(module)))


def _collect(folder: Path, name: str, found: dict[str, Path]) -> None:
    """Add a file and the files beside it that it imports, directly or through others, to `found`."""
    if name in found:
        return
    found[name] = folder / name
    for other in _imports(folder / name):
        place = (Path(name).parent / other).as_posix()
        for candidate in (f"{place}.py", f"{place}/__init__.py"):
            if (folder / candidate).is_file():
                _collect(folder, candidate, found)


def _imports(file: Path) -> Iterator[str]:
    """Yield the paths, without suffix, of the modules that a file imports relatively from its folder."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):  # its import fails too
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [alias.name for alias in node.names]
            yield from [node.module.replace(".", "/")] if node.module else names

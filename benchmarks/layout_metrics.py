"""The structure of the source at one or several revisions: files per folder, import cycles, function and file sizes.

    python benchmarks/layout_metrics.py 0e21991 HEAD

Revisions are read with `git archive`; nothing is imported from them.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from import_graph import FOLDERS, cycles, graph_of, source_files  # noqa: E402


def main(revisions: list[str]) -> None:
    """Print a table with a column per revision."""
    columns = [measured(revision) for revision in revisions]
    print("| |", " | ".join(revisions), "|")
    print("| --- |", " | ".join("---:" for _ in revisions), "|")
    for name in columns[0]:
        print(f"| {name} |", " | ".join(column[name] for column in columns), "|")


def measured(revision: str) -> dict[str, str]:
    """Name of a measure -> its value at a revision."""
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        return _facts(Path(folder))


def _facts(root: Path) -> dict[str, str]:
    files = source_files(root)
    modules = [path for path in files if path.name != "__init__.py"]
    found = {"modules": str(len(modules))}
    for folder in FOLDERS:
        flat = sum(path.parent == Path(folder) for path in modules)
        rooms = {path.parent for path in modules if path.parts[0] == folder and path.parent != Path(folder)}
        found[f"{folder}: modules at its root, rooms"] = f"{flat}, {len(rooms)}"
    crowd, most = Counter(path.parent for path in modules).most_common(1)[0]
    found["most modules in a folder"] = f"{most} ({crowd})"
    circles = cycles(graph_of(root))
    cyclic = sum(map(len, circles))
    found["import cycles of any kind (modules in them)"] = f"{len(circles)} ({cyclic})"
    functions = [length for path in files for length in _function_lengths(root / path)]
    median, p90 = np.percentile(functions, (50, 90))
    found["functions: median, p90, longest"] = f"{median:.0f}, {p90:.0f}, {max(functions)}"
    found["functions over 40 lines"] = f"{sum(length > 40 for length in functions)} of {len(functions)}"
    lines = {path: len((root / path).read_text(encoding="utf-8").splitlines()) for path in files}
    found["file: median, longest"] = f"{np.median(list(lines.values())):.0f}, {max(lines.values())}"
    tests = {path.stem.removeprefix("test_") for path in (root / "tests").rglob("test_*.py")}
    found["modules with a test file of their name"] = f"{sum(path.stem in tests for path in modules)}"
    return found


def _function_lengths(path: Path) -> list[int]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [(node.end_lineno or 0) - node.lineno + 1 for node in ast.walk(tree) if isinstance(node, kinds)]


if __name__ == "__main__":
    main(sys.argv[1:] or ["HEAD"])

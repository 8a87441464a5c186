"""The import graph of a checkout, read from its sources, with every form of import."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("merge_ops", "search_spaces", "evaluators", "optimizer")


@dataclass(frozen=True)
class Import:
    """One name that a file imports: the dotted target, and whether it was written as a relative import."""

    target: str
    relative: bool


def module_name(path: Path) -> str:
    """Return the dotted name under `mergesmith` of a file, by its path from the root of the checkout."""
    parts = path.with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "mergesmith" else ("mergesmith", *parts))


def source_files(root: Path) -> list[Path]:
    """Return all Python files of the package, by their paths from the root."""
    folders = ("mergesmith", *FOLDERS)
    return sorted(path.relative_to(root) for folder in folders for path in (root / folder).rglob("*.py"))


def imports_of(source: str, path: Path) -> Iterator[Import]:
    """Yield every imported name of a file, also of imports inside functions and under TYPE_CHECKING."""
    package = module_name(path.parent / "__init__.py").split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*parent, *([node.module] if node.module else [])])
            yield from (Import(f"{module}.{alias.name}", node.level > 0) for alias in node.names)


def graph_of(root: Path) -> dict[str, set[str]]:
    """Return module -> the modules of this package that it imports, including lazy and type-only imports."""
    files = source_files(root)
    modules = {module_name(path): path for path in files}
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for found in imports_of((root / path).read_text(encoding="utf-8"), path):
            target = found.target
            while target not in modules and "." in target:  # the last part may be a name inside the module
                target = target.rpartition(".")[0]
            if target in modules and target not in (name, "mergesmith"):
                graph[name].add(target)
    return graph


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that reach each other, by Tarjan's algorithm for strongly connected components."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found

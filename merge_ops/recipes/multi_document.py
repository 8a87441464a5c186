"""Loads YAML documents, and joins several documents into one recipe with named intermediate merges.

The format is that of mergekit-multi: documents separated by `---`, each a recipe; those with a `name` are
intermediates, the one without is the output. Their order does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from mergesmith.errors import Faults, UserError

from .recipe import Recipe

MERGE_TAG = "tag:yaml.org,2002:merge"
Read = Callable[[object, str], Recipe]


class _Loader(yaml.SafeLoader):
    """A safe loader that rejects duplicate keys, of which YAML would silently use the last."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    # "<<" includes another mapping, whose keys may be overridden.
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value if key.tag != MERGE_TAG]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"duplicate key '{key}'", node.start_mark)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_yaml(text: str, *, where: str) -> Any:
    """Return the only document in YAML text.

    Raises:
        UserError: the text is not valid YAML, has a duplicate key, or contains several documents; `where` names it.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {error}") from None


def load_documents(text: str, *, where: str) -> list[Any]:
    """Return the non-empty YAML documents in a text, or `[None]` if there are none.

    Raises:
        UserError: the text is not valid YAML, or has a duplicate key; `where` names it.
    """
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {error}") from None
    return [document for document in documents if document is not None] or [None]


def join_documents(documents: Sequence[Any], where: str, read: Read) -> tuple[Recipe, tuple[str, ...]]:
    """Return the recipe of several documents, and the names of unused documents, which it does not include.

    Raises:
        UserError: names are missing or duplicate, documents depend on each other in a circle, or one has faults.
    """
    named, final = _by_name(documents, where)
    recipes: dict[str, Recipe] = {}
    errors: list[str] = []
    for name, document in (*named.items(), (None, final)):
        place = f"{where}: document '{name}'" if name is not None else f"{where}: the document without a name"
        try:
            recipes[name or ""] = read(document, place)
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError("\n".join(errors))
    recipe = recipes.pop("")
    order = _order(recipe, recipes, where)
    unused = tuple(name for name in recipes if name not in order)
    return replace(recipe, intermediates=tuple((name, recipes[name]) for name in order)), unused


def _by_name(documents: Sequence[Any], where: str) -> tuple[dict[str, Any], Any]:
    """Return the named documents, without their `name` key, and the one that has no name."""
    faults = Faults(where)
    named: dict[str, Any] = {}
    unnamed: list[Any] = []
    for i, document in enumerate(documents):
        name = document.get("name") if isinstance(document, dict) else None
        if name is None:
            unnamed.append(document)
        elif not isinstance(name, str) or not name:
            faults.add(f"document {i + 1}.name", f"must be text, but is {name!r}")
        elif name in named:
            faults.add(f"document {i + 1}.name", f"'{name}' is the name of an earlier document too")
        else:
            named[name] = {key: value for key, value in document.items() if key != "name"}
            if "intermediates" in (document.get("mergesmith") or {}):
                faults.add(f"document {i + 1}.mergesmith.intermediates", "is not allowed in a named document")
    if len(unnamed) != 1:
        faults.add("", f"exactly one document, the output, must have no name, but {len(unnamed)} have none")
    faults.raise_if_any()
    return named, unnamed[0]


def _order(recipe: Recipe, recipes: Mapping[str, Recipe], where: str) -> list[str]:
    """Return the names that the output depends on, in the order of their dependencies."""
    order: list[str] = []

    def visit(part: Recipe, path: tuple[str, ...]) -> None:
        for name in part.references():
            if name in path:
                circle = " -> ".join((*path[path.index(name) :], name))
                raise UserError(f"{where}: the documents depend on each other in a circle: {circle}")
            if name in recipes and name not in order:
                visit(recipes[name], (*path, name))
                order.append(name)

    visit(recipe, ())
    return order

"""YAML text to documents, and several documents to one recipe: named merges that others use as models.

The form is mergekit-multi's: documents separated by `---`, each a recipe; those with a `name` are intermediates, the
one without is the output. Their order does not matter.
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
    """Safe loading that refuses a key given twice, where YAML's last one would silently win."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    # "<<" takes in another mapping's keys, which may stand again beside it.
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value if key.tag != MERGE_TAG]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' stands twice", node.start_mark)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_yaml(text: str, *, where: str) -> Any:
    """The one document in YAML text; a key that stands twice is refused, where YAML's last one would silently win.

    Raises:
        UserError: the text is not valid YAML, or holds several documents; `where` names it.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {error}") from None


def load_documents(text: str, *, where: str) -> list[Any]:
    """The YAML documents in a text, the empty ones left out; one empty document where there is no other.

    Raises:
        UserError: the text is not valid YAML, or a key stands twice in a mapping; `where` names it.
    """
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {error}") from None
    return [document for document in documents if document is not None] or [None]


def join_documents(documents: Sequence[Any], where: str, read: Read) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe of several documents, and the names that no other document uses (they are left out).

    Raises:
        UserError: names are missing or stand twice, documents need each other in a circle, or one holds faults.
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
    """The named documents without their names, and the one that has none."""
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
            faults.add(f"document {i + 1}.name", f"'{name}' names an earlier document too")
        else:
            named[name] = {key: value for key, value in document.items() if key != "name"}
            if "intermediates" in (document.get("mergesmith") or {}):
                faults.add(f"document {i + 1}.mergesmith.intermediates", "a named document has none of its own")
    if len(unnamed) != 1:
        faults.add("", f"exactly one document has no name: it is the output; but here {len(unnamed)} have none")
    faults.raise_if_any()
    return named, unnamed[0]


def _order(recipe: Recipe, recipes: Mapping[str, Recipe], where: str) -> list[str]:
    """The names that the output needs, each after those that it needs itself."""
    order: list[str] = []

    def visit(part: Recipe, path: tuple[str, ...]) -> None:
        for name in part.references():
            if name in path:
                circle = " -> ".join((*path[path.index(name) :], name))
                raise UserError(f"{where}: the documents need each other in a circle: {circle}")
            if name in recipes and name not in order:
                visit(recipes[name], (*path, name))
                order.append(name)

    visit(recipe, ())
    return order

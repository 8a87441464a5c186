"""YAML text to a document; a key that stands twice is refused."""

from __future__ import annotations

from typing import Any

import yaml

from mergesmith.errors import UserError

MERGE_TAG = "tag:yaml.org,2002:merge"


def load_yaml(text: str, *, where: str) -> Any:
    """The document in YAML text; a key that stands twice is refused, where YAML's last one would silently win.

    Raises:
        UserError: the text is not valid YAML; `where` names it.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {error}") from None


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

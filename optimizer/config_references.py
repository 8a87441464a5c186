"""Models as a search.yaml names them: text, a path object in Python, or mergekit's mapping."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import BeforeValidator

from ..merge_ops import ModelReference


def _path_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, PurePath) else value


def _as_text(value: Any) -> Any:
    """Return a model's reference as text; other values are unchanged, for pydantic to reject.

    Raises:
        ValueError: a mapping has unknown keys, or parameters, which a search sets for each candidate.
    """
    if not isinstance(value, Mapping):
        return _path_as_text(value)
    if "parameters" in value:
        raise ValueError(
            f"a model of a search has no parameters; to fix one, write space: {{methods: {{METHOD: "
            f'{{"models[{value.get("model")}].weight": 0.5}}}}}}'
        )
    inner = value.get("model")
    if isinstance(inner, Mapping) and "model" in inner:  # an entry of a recipe's models: around a reference
        if len(value) > 1:
            raise ValueError(f"write the model as {dict(inner)}, without {', '.join(k for k in value if k != 'model')}")
        value = inner
    return str(ModelReference.from_mapping(value))


Reference = Annotated[str, BeforeValidator(_as_text)]
"""A model: `model[@revision][+adapter[@revision]]`, or mergekit's mapping of the same."""
PathText = Annotated[str, BeforeValidator(_path_as_text)]

"""Model references as in mergekit: a path or hub id, a revision, and a LoRA adapter. Opens no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mergesmith.errors import Faults, UserError, unknown

LAW = "a model is written `model[@revision][+adapter[@revision]]`, with at most one + and one @ on each side of it"


@dataclass(frozen=True)
class ModelPath:
    """A folder or hub id, and the revision of a hub id."""

    path: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> ModelPath:
        """Parse `path[@revision]`.

        Raises:
            UserError: there is more than one @, or an empty path or revision.
        """
        path, at, revision = text.partition("@")
        if "@" in revision or not path or (at and not revision):
            raise UserError(f"model '{text}': {LAW}")
        return cls(path, revision or None)

    def __str__(self) -> str:
        return self.path if self.revision is None else f"{self.path}@{self.revision}"


@dataclass(frozen=True)
class ModelReference:
    """A model and the LoRA adapter that is merged into it, if any.

    >>> ModelReference.parse("owner/model@v2+./adapter")
    ModelReference(model=ModelPath(path='owner/model', revision='v2'), lora=ModelPath(path='./adapter', revision=None))
    """

    model: ModelPath
    lora: ModelPath | None = None

    @classmethod
    def parse(cls, text: str) -> ModelReference:
        """Parse a reference. For existing folders with + or @ in their names, use `find_model.locate`.

        Raises:
            UserError: there is more than one +, more than one @ on a side, or an empty part.
        """
        model, plus, lora = text.partition("+")
        if "+" in lora or not model or (plus and not lora):
            raise UserError(f"model '{text}': {LAW}")
        try:
            return cls(ModelPath.parse(model), ModelPath.parse(lora) if plus else None)
        except UserError:
            raise UserError(f"model '{text}': {LAW}") from None

    @classmethod
    def from_mapping(cls, value: Mapping[Any, Any]) -> ModelReference:
        """Parse mergekit's mapping `{model: {path, revision}, lora: {path, revision}}`.

        Raises:
            UserError: a key is unknown, missing or of the wrong type, or override_architecture is set.
        """
        if value.get("override_architecture") is not None:
            raise UserError(
                "override_architecture is not supported: a checkpoint is read as its config.json describes it; "
                "change model_type there, in a copy"
            )
        for key in value:
            if key not in ("model", "lora", "override_architecture"):
                raise UserError(unknown("key", key, ("model", "lora")))
        if value.get("model") is None:
            raise UserError("model is missing; a model is text or {model: {path, revision}, lora: {path, revision}}")
        lora = value.get("lora")
        return cls(_path(value["model"], "model"), None if lora is None else _path(lora, "lora"))

    def __str__(self) -> str:
        return str(self.model) if self.lora is None else f"{self.model}+{self.lora}"


def reference_text(value: object, place: str, faults: Faults) -> object:
    """Return a model reference of a recipe, converted to text if it is a mapping; record faults of the mapping."""
    if not isinstance(value, Mapping):
        return value
    try:
        return str(ModelReference.from_mapping(value))
    except UserError as error:
        faults.add(place, str(error))
        return None


def _path(value: object, place: str) -> ModelPath:
    if isinstance(value, str):
        return ModelPath.parse(value)
    if not isinstance(value, Mapping):
        raise UserError(f"{place} must be text or {{path, revision}}, but is a {type(value).__name__}")
    for key in value:
        if key not in ("path", "revision"):
            raise UserError(f"{place}: {unknown('key', key, ('path', 'revision'))}")
    path, revision = value.get("path"), value.get("revision")
    if not isinstance(path, str) or not path:
        raise UserError(f"{place}.path must name a folder or hub id, but is {path!r}")
    if revision is not None and not isinstance(revision, str):
        raise UserError(f"{place}.revision must be text, but is {revision!r}; put it in quotes")
    return ModelPath(path, revision)

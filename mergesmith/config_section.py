"""The base class of all sections of search.yaml."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ConfigSection(BaseModel):
    """A section of search.yaml: immutable; a key that it does not declare is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

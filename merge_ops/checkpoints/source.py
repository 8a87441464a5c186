"""A source model of a merge, whether it lies on disk or is itself a merge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import torch

from ..architectures.architecture import Architecture
from ..architectures.canonical_names import Part
from .weights_digest import WeightsDigest


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies and what it is; `part` is the part of the stored tensor where it is not all of it."""

    file: Path
    stored_name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    part: Part | None = None


class ModelSource(ABC):
    """One source model; tensors go by their canonical checkpoint names.

    Attributes:
        reference: the name that recipes use.
        folder: the folder of its configuration and tokenizer.
        architecture: tensor names, shapes, ties and layers.
        entries: every tensor by canonical name, sorted.
        config: config.json.
    """

    reference: str
    folder: Path
    architecture: Architecture
    entries: dict[str, TensorEntry]

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json."""
        return self._read_config()

    @abstractmethod
    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor, not to be written to."""

    @property
    @abstractmethod
    def merged_from(self) -> Any:
        """The plan of a source that is itself a merge; None for a checkpoint."""

    @property
    @abstractmethod
    def folders(self) -> tuple[Path, ...]:
        """Every folder that is read."""

    @cached_property
    def sampled_digest(self) -> str:
        """SHA-256 over parts of all tensors."""
        return self._sampled_digest()

    @cached_property
    def tokenizer_digest(self) -> str | None:
        """SHA-256 of the files that turn text into token ids."""
        return self._tokenizer_digest()

    @cached_property
    def vocabularies(self) -> Mapping[str, str]:
        """SHA-256 of which token each id stands for, by kind of file."""
        return self._vocabularies()

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all tensors, as stored."""
        return sum(prod(entry.shape) * entry.dtype.itemsize for entry in self.entries.values())

    @cached_property
    def weights_digest(self) -> str:
        """SHA-256 over all tensors, independent of sharding (`weights_digest.py`)."""
        return WeightsDigest.of((name, self.tensor(name)) for name in self.entries).hex

    @abstractmethod
    def _read_config(self) -> dict[str, Any]: ...

    @abstractmethod
    def _sampled_digest(self) -> str: ...

    @abstractmethod
    def _tokenizer_digest(self) -> str | None: ...

    @abstractmethod
    def _vocabularies(self) -> Mapping[str, str]: ...

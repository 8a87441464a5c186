"""The interface of a source model: a checkpoint on disk, or a merge that another merge uses as a model."""

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
    """The file, stored name, shape and dtype of one tensor; `part` is set if it is only a part of the stored tensor."""

    file: Path
    stored_name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    part: Part | None = None


class ModelSource(ABC):
    """A model whose tensors are read by canonical checkpoint name.

    Attributes:
        reference: the name that recipes use.
        folder: the folder of its configuration.
        architecture: tensor names, shapes, ties and layers.
        entries: every tensor by canonical name, sorted.
        config: the content of config.json.
    """

    reference: str
    folder: Path
    architecture: Architecture
    entries: dict[str, TensorEntry]

    @property
    @abstractmethod
    def on_disk(self) -> bool:
        """Whether this is a checkpoint on disk, whose tensors are worth keeping in memory for many candidates."""

    @property
    @abstractmethod
    def mapped(self) -> bool:
        """Whether tensors are returned as they are stored, memory-mapped, so that reading one computes nothing."""

    @property
    @abstractmethod
    def folders(self) -> tuple[Path, ...]:
        """Every folder that is read."""

    @abstractmethod
    def tensor(self, name: str) -> torch.Tensor:
        """Return the tensor of a canonical name. It must not be written to."""

    @abstractmethod
    def tokenizer(self) -> Any:
        """Return a new copy of the tokenizer, which the caller may change.

        Raises:
            UserError: there is no tokenizer, or it cannot be loaded.
        """

    @abstractmethod
    def write_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer's files into `folder`."""

    @property
    @abstractmethod
    def tokenizer_folder(self) -> Path:
        """The folder of the checkpoint whose tokenizer this is, or starts from."""

    @property
    @abstractmethod
    def chat_template(self) -> str | None:
        """The chat template, or None."""

    @property
    @abstractmethod
    def generation_config(self) -> dict[str, Any] | None:
        """The content of generation_config.json, or None if there is none."""

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        return self._read_config()

    @cached_property
    def sampled_digest(self) -> str:
        """SHA-256 over parts of all tensors."""
        return self._sampled_digest()

    @cached_property
    def tokenizer_digest(self) -> str | None:
        """SHA-256 of the data that turn text into token ids, or None if there are none."""
        return self._tokenizer_digest()

    @cached_property
    def vocabularies(self) -> Mapping[str, str]:
        """SHA-256 of the mapping from ids to tokens, by kind of vocabulary file, best kind first."""
        return self._vocabularies()

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all tensors, as stored."""
        return sum(prod(entry.shape) * entry.dtype.itemsize for entry in self.entries.values())

    @cached_property
    def weights_digest(self) -> str:
        """SHA-256 over all tensors, independent of sharding (see `WeightsDigest`)."""
        return WeightsDigest.of((name, self.tensor(name)) for name in self.entries).hex

    @abstractmethod
    def _read_config(self) -> dict[str, Any]: ...

    @abstractmethod
    def _sampled_digest(self) -> str: ...

    @abstractmethod
    def _tokenizer_digest(self) -> str | None: ...

    @abstractmethod
    def _vocabularies(self) -> Mapping[str, str]: ...

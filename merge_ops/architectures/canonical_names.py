"""From the names in a checkpoint's files to its canonical names, those that `save_pretrained` writes.

transformers reads more names than it writes: those of its own modules (newer versions fuse a layer's experts into one
tensor), those of older versions, and names without the base model's prefix. Most files hold canonical names alone; only
for the others is the model itself asked, on the meta device (`live_names.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch


@dataclass(frozen=True)
class Part:
    """The part of a stored tensor that is a canonical one: a strided view."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    def of(self, stored: torch.Tensor) -> torch.Tensor:
        """The view of a contiguous stored tensor."""
        return torch.as_strided(stored.contiguous(), self.shape, self.strides, self.offset)


class NonCanonicalNames(Protocol):
    """Knows the other names that transformers accepts; see `transformers_names.py`."""

    def canonical(self, name: str) -> dict[str, Part | None] | None:
        """As `StoredNames.canonical`, of a name that is not canonical."""
        ...


class StoredNames:
    """What the names in the files of one kind of model stand for.

    `shapes` maps the canonical names, `ties` those that are not stored to the ones that they share; `prefix` is the
    base model's. `live` makes what knows the other names.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        ties: Mapping[str, str],
        prefix: str,
        live: Callable[[], NonCanonicalNames],
    ) -> None:
        self.shapes, self.ties, self.prefix, self._make = shapes, ties, prefix, live

    def canonical(self, name: str) -> dict[str, Part | None] | None:
        """The canonical tensors that a stored one holds and the part of it that each is (None: all of it).

        The stored name itself stands for one that the model does not know; None for one that loading ignores.
        """
        prefix = f"{self.prefix}."
        for candidate in (name, prefix + name, name.removeprefix(prefix)):
            if candidate in self.shapes or candidate in self.ties:
                return {candidate: None}
        return self._live.canonical(name)

    @cached_property
    def _live(self) -> NonCanonicalNames:
        return self._make()

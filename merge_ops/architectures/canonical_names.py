"""Maps the names in a checkpoint's files to canonical names, the ones that `save_pretrained` writes.

transformers reads more names than it writes: module names (newer versions fuse the experts of a layer into one tensor),
names of older versions, and names without the base model's prefix. Most files hold canonical names only; for the
others, a model on the meta device is consulted (`transformers_names.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Part:
    """A strided view of a stored tensor that is one canonical tensor. Strides and offset count elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    def of(self, stored: torch.Tensor) -> torch.Tensor:
        """Return the view of a stored tensor."""
        return stored.contiguous().as_strided(self.shape, self.strides, self.offset)


class NonCanonicalNames(Protocol):
    """Maps the other names that transformers accepts; see `transformers_names.py`."""

    def canonical(self, name: str) -> dict[str, Part | None] | None:
        """Do the same as `StoredNames.canonical`, for a name that is not canonical."""
        ...


class StoredNames:
    """Maps the stored names of one kind of model to canonical names.

    `shapes` has the canonical names as keys, `ties` maps those that are not stored to the ones that they share, and
    `prefix` is the prefix of the base model. `live` is called once, when a name is not canonical.
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
        """Return the canonical tensors in a stored tensor, each with the part that holds it (None: the whole tensor).

        A tensor that the model does not know is returned under its stored name. Return None if loading ignores it.
        """
        prefix = f"{self.prefix}."
        for candidate in (name, prefix + name, name.removeprefix(prefix)):
            if candidate in self.shapes or candidate in self.ties:
                return {candidate: None}
        return self._live.canonical(name)

    @cached_property
    def _live(self) -> NonCanonicalNames:
        return self._make()

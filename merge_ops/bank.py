"""The sources of a merge, opened once, and statistics of them that no candidate changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from .checkpoint import Checkpoint
from .reductions import gram_matrix

if TYPE_CHECKING:
    from .intermediate import MergedSource

InputKey = tuple[str, str]  # model reference, canonical checkpoint name


class ModelBank:
    """Checkpoints by reference.

    On the CPU tensors stay memory-mapped; with `resident` they are copied to `device` on first use and kept there.
    """

    def __init__(
        self,
        references: Iterable[str],
        *,
        roots: Sequence[Path] = (),
        device: torch.device | str = "cpu",
        resident: bool = False,
    ) -> None:
        """Open every reference; see `Checkpoint` for what can go wrong."""
        self.device = torch.device(device)
        self.roots = tuple(roots)
        self.resident = resident
        self._kept: dict[InputKey, torch.Tensor] = {}
        self._grams: dict[tuple[tuple[InputKey, ...], torch.dtype | None], np.ndarray] = {}
        self._checkpoints: dict[str, Checkpoint | MergedSource] = {}
        self.open(references)

    def open(self, references: Iterable[str]) -> None:
        """Open those references that are not open yet."""
        for reference in references:
            if reference not in self._checkpoints:
                self._checkpoints[reference] = Checkpoint(reference, roots=self.roots)

    def add(self, source: MergedSource) -> None:
        """Take in an intermediate merge as a source."""
        self._checkpoints[source.reference] = source

    def __getitem__(self, reference: str) -> Checkpoint | MergedSource:
        return self._checkpoints[reference]

    @property
    def references(self) -> tuple[str, ...]:
        """The references that are open, in the order of opening."""
        return tuple(self._checkpoints)

    def tensor(self, key: InputKey) -> torch.Tensor:
        """A source tensor on the bank's device, in its stored dtype. Not to be written to."""
        source = self._checkpoints[key[0]]
        if not self.resident or not isinstance(source, Checkpoint):
            return source.tensor(key[1]).to(self.device)
        if key not in self._kept:
            self._kept[key] = source.tensor(key[1]).to(self.device, copy=True)
        return self._kept[key]

    def gram(self, keys: tuple[InputKey, ...], dtype: torch.dtype | None) -> np.ndarray:
        """Inner products of the tensors, each cast to `dtype` first (None: as stored), (N, N) float64; cached."""
        cached = self._grams.get((keys, dtype))
        if cached is None:
            cached = gram_matrix([cast(self.tensor(key), dtype) for key in keys])
            self._grams[keys, dtype] = cached
        return cached


def cast(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """The tensor in `dtype`; None leaves it as it is."""
    return tensor if dtype is None else tensor.to(dtype)

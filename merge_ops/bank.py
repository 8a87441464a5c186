"""The sources of a merge, opened once, and statistics of them that no candidate changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .checkpoint import Checkpoint
from .statistics import InputStatistics, compute_anew

if TYPE_CHECKING:
    from .intermediate import MergedSource

InputKey = tuple[str, str]  # model reference, canonical checkpoint name


class ModelBank:
    """Checkpoints by reference.

    On the CPU tensors stay memory-mapped; with `resident` they are copied to `device` on first use and kept there. With
    `keep_deltas` merged task vectors that depend on no searched number (singular value decompositions) are kept too,
    in memory as large as the models: worth it where many candidates are merged, not for a single one.
    `trust_remote_code` lets transformers run a checkpoint's own code; `allow_different_architectures` lets models of
    several families merge, by the definition of the first.
    """

    def __init__(
        self,
        references: Iterable[str],
        *,
        roots: Sequence[Path] = (),
        device: torch.device | str = "cpu",
        resident: bool = False,
        keep_deltas: bool = False,
        trust_remote_code: bool = False,
        allow_different_architectures: bool = False,
    ) -> None:
        """Open every reference; see `Checkpoint` for what can go wrong."""
        self.device = torch.device(device)
        self.roots = tuple(roots)
        self.resident = resident
        self.keep_deltas = keep_deltas
        self.trust_remote_code = trust_remote_code
        self.allow_different_architectures = allow_different_architectures
        self._kept: dict[InputKey, torch.Tensor] = {}
        self._known: dict[Hashable, Any] = {}
        self._derived: dict[InputKey, Callable[[], torch.Tensor]] = {}
        self._checkpoints: dict[str, Checkpoint | MergedSource] = {}
        self.open(references)

    def open(self, references: Iterable[str]) -> None:
        """Open those references that are not open yet."""
        for reference in references:
            if reference not in self._checkpoints:
                self._checkpoints[reference] = Checkpoint(
                    reference, roots=self.roots, trust_remote_code=self.trust_remote_code
                )

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
        source, make = self._checkpoints[key[0]], self._derived.get(key)
        if not self.resident or not isinstance(source, Checkpoint):  # intermediates are not kept: they are merged anew
            return source.tensor(key[1]).to(self.device) if make is None else make()
        if key not in self._kept:
            self._kept[key] = make() if make else source.tensor(key[1]).to(self.device, copy=True)
        return self._kept[key]

    def statistics(self, keys: tuple[InputKey, ...], base: int | None, dtype: torch.dtype | None) -> InputStatistics:
        """Statistics of tensors, each cast to `dtype` first (None: as stored); what was computed once is kept.

        Results as large as a tensor are kept with `keep_deltas` alone.
        """

        def remember(name: Hashable, compute: Callable[[], Any]) -> Any:
            return self.remember((keys, dtype, name), compute)

        return InputStatistics(
            lambda: [cast(self.tensor(key), dtype) for key in keys],
            base,
            remember=remember,
            remember_tensor=remember if self.keep_deltas else compute_anew,
        )

    def derive(self, key: InputKey, make: Callable[[], torch.Tensor]) -> InputKey:
        """Give a tensor that is computed from the sources a key of its own, under which its statistics are kept too."""
        self._derived.setdefault(key, make)
        return key

    def remember(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once for a key: for what follows from the sources and no candidate changes."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


def cast(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """The tensor in `dtype`; None leaves it as it is."""
    return tensor if dtype is None else tensor.to(dtype)

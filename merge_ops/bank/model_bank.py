"""The opened sources of a merge, and cached values that depend on them alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.source import ModelSource
from .input_statistics import InputStatistics, compute_anew
from .residency import InputKey, Residency, ResidentTensors

READERS = 8  # threads that read files
PAGE = 4096  # bytes


class ModelBank:
    """The sources of a merge by reference, their tensors on a device, and a cache of values computed from them.

    A model spread over several devices is merged on each of them: `on` returns the bank of another device.

    Attributes:
        roots: folders below which relative references are searched.
        tensors: the sources' tensors on the bank's device.
        trust_remote_code: let transformers run code that a checkpoint contains.
        allow_different_architectures: let models of several families merge, as the first one's architecture.
    """

    def __init__(
        self,
        references: Iterable[str],
        *,
        roots: Sequence[Path] = (),
        device: torch.device | str = "cpu",
        residency: Residency | None = None,
        trust_remote_code: bool = False,
        allow_different_architectures: bool = False,
    ) -> None:
        """Open every reference.

        Raises:
            UserError: see `Checkpoint`.
        """
        self.roots = tuple(roots)
        self.trust_remote_code = trust_remote_code
        self.allow_different_architectures = allow_different_architectures
        self._sources: dict[str, ModelSource] = {}
        self.tensors = ResidentTensors(self._sources, torch.device(device), residency or Residency())
        self._known: dict[Hashable, Any] = {}
        self._banks: dict[torch.device, ModelBank] = {}  # by device, if there are several
        self.open(references)

    def open(self, references: Iterable[str], *, roots: Sequence[Path] = ()) -> None:
        """Open the references that are not open yet, searching `roots` before the bank's.

        Raises:
            UserError: see `Checkpoint`.
        """
        for reference in references:
            if reference not in self._sources:
                self._sources[reference] = Checkpoint(
                    reference, roots=(*roots, *self.roots), trust_remote_code=self.trust_remote_code
                )

    def add(self, source: ModelSource) -> None:
        """Add a source that is already open, such as an intermediate merge."""
        self._sources[source.reference] = source

    def with_residency(self, residency: Residency) -> ModelBank:
        """Return a bank of the same checkpoints and cached values that keeps other tensors in memory.

        Intermediates are not carried over: they read through the bank that they were opened with.
        """
        other = ModelBank(
            (),
            roots=self.roots,
            device=self.device,
            residency=residency,
            trust_remote_code=self.trust_remote_code,
            allow_different_architectures=self.allow_different_architectures,
        )
        other._sources.update({name: source for name, source in self._sources.items() if source.on_disk})
        other._known.update(self._known)
        return other

    def __getitem__(self, reference: str) -> ModelSource:
        return self._sources[reference]

    @property
    def references(self) -> tuple[str, ...]:
        """The references that are open, in the order of opening."""
        return tuple(self._sources)

    @property
    def residency(self) -> Residency:
        """Which tensors stay in memory."""
        return self.tensors.residency

    @property
    def device(self) -> torch.device:
        """The device that tensors are merged on."""
        return self.tensors.device

    def on(self, device: torch.device) -> ModelBank:
        """Return the bank of another device, with the same sources. Kept tensors are shared, cached values are not."""
        if device == self.device:
            return self
        self._banks.setdefault(self.device, self)
        if device not in self._banks:
            other = copy.copy(self)
            other.tensors, other._known = self.tensors.on(device), {}
            self._banks.setdefault(device, other)  # several threads may do this at the same time
        return self._banks[device]

    def at_home(self, name: str) -> ModelBank:
        """Return the bank of the device on which the tensors with this checkpoint name are kept."""
        return self.on(self.tensors.home(name))

    def tensor(self, key: InputKey) -> torch.Tensor:
        """Return a source tensor on the bank's device, in its stored dtype. It must not be written to."""
        return self.tensors.tensor(key)

    def load(self, advance: Callable[[int], None]) -> None:
        """Read all checkpoints in parallel: to the device if resident, to page-locked memory if pinned.

        Otherwise they are read into the operating system's file cache. `advance(n)` is called after every `n` bytes.
        Without a call of `load`, tensors are read on first use.
        """
        keys = [(ref, name) for ref, source in self._sources.items() if source.on_disk for name in source.entries]
        with ThreadPoolExecutor(READERS) as pool:
            for nbytes in pool.map(self._load, keys):
                advance(nbytes)

    def _load(self, key: InputKey) -> int:
        from_host = self.tensors.streams and self.tensors.mapped(key)
        tensor = self.tensors.host(key) if from_host else self.tensor(key)
        if tensor.device.type == "cpu" and tensor.is_contiguous():
            tensor.view(-1).view(torch.uint8)[::PAGE].sum()  # touches every page
        return tensor.nbytes

    def statistics(self, keys: tuple[InputKey, ...], base: int | None, dtype: torch.dtype | None) -> InputStatistics:
        """Return cached statistics of tensors, each cast to `dtype` first (None: as stored); `base` is an index.

        Results as large as a tensor are cached with `keep_deltas` only.
        """

        def remember(name: Hashable, compute: Callable[[], Any]) -> Any:
            return self.remember((keys, dtype, name), compute)

        keeps_tensors = self.residency.keep_deltas and not self.tensors.streams
        return InputStatistics(
            lambda: [cast_input(self.tensor(key), dtype) for key in keys],
            base,
            remember=remember,
            remember_tensor=remember if keeps_tensors else compute_anew,
        )

    @property
    def known_bytes(self) -> int:
        """Bytes of the cached statistics."""
        banks = self._banks.values() or (self,)
        return sum(getattr(value, "nbytes", 0) for bank in banks for value in bank._known.values())

    def recall(self, key: Hashable) -> Any:
        """Return the cached value for `key`, or None."""
        return self._known.get(key)

    def remember(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the cached value for `key`, calling `make` on first use.

        For values that depend on the sources only, never on a candidate.
        """
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


def cast_input(stored: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """Cast a tensor to a recipe's dtype (None: as stored). Widening to float32 is left to the kernels' loads."""
    if dtype is None or (dtype == torch.float32 and torch.promote_types(stored.dtype, dtype) == dtype):
        return stored
    return stored.to(dtype)

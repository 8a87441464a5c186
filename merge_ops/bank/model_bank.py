"""The sources of a merge, opened once, and statistics of them that no candidate changes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.source import ModelSource
from .input_statistics import InputStatistics, compute_anew

READERS = 8  # files are read by so many threads
PAGE = 4096

InputKey = tuple[str, str]  # model reference, canonical checkpoint name


class ModelBank:
    """Checkpoints by reference.

    On the CPU tensors stay memory-mapped; with `resident` they are copied to `device` on first use and kept there. With
    `keep_deltas` what is made of the sources and depends on no searched number is kept too, in memory as large as the
    models: merged adapters, rebuilt vocabularies, task vectors merged by singular value decompositions. Worth it where
    many candidates are merged, not for a single one.
    On other devices than the CPU sources that are not resident come from the host's memory tensor by tensor; with
    `pinned` they are kept there in page-locked memory, from which copies run beside the work (`stream.py`).
    `trust_remote_code` lets transformers run a checkpoint's own code; `allow_different_architectures` lets models of
    several families merge, by the definition of the first.

    A model spread over several devices is merged on each: `on` gives the bank of another device, and `homes` says by
    checkpoint name on which one a source is kept. Elsewhere a kept tensor is copied each time.
    """

    def __init__(
        self,
        references: Iterable[str],
        *,
        roots: Sequence[Path] = (),
        device: torch.device | str = "cpu",
        resident: bool = False,
        pinned: bool = False,
        keep_deltas: bool = False,
        trust_remote_code: bool = False,
        allow_different_architectures: bool = False,
    ) -> None:
        """Open every reference; see `Checkpoint` for what can go wrong."""
        self.device = torch.device(device)
        self.roots = tuple(roots)
        self.resident = resident
        self.pinned = pinned
        self.keep_deltas = keep_deltas
        self.trust_remote_code = trust_remote_code
        self.allow_different_architectures = allow_different_architectures
        self._kept: dict[InputKey, torch.Tensor] = {}
        self._pinned: dict[InputKey, torch.Tensor] = {}
        self._staged: Mapping[InputKey, torch.Tensor] = {}
        self._known: dict[Hashable, Any] = {}
        self._derived: dict[InputKey, Callable[[], torch.Tensor]] = {}
        self._checkpoints: dict[str, ModelSource] = {}
        self.homes: Mapping[str, torch.device] = {}
        self._banks: dict[torch.device, ModelBank] = {}  # by device, where there are several
        self.open(references)

    def open(self, references: Iterable[str]) -> None:
        """Open those references that are not open yet."""
        for reference in references:
            if reference not in self._checkpoints:
                self._checkpoints[reference] = Checkpoint(
                    reference, roots=self.roots, trust_remote_code=self.trust_remote_code
                )

    def add(self, source: ModelSource) -> None:
        """Take in an intermediate merge as a source."""
        self._checkpoints[source.reference] = source

    def __getitem__(self, reference: str) -> ModelSource:
        return self._checkpoints[reference]

    @property
    def references(self) -> tuple[str, ...]:
        """The references that are open, in the order of opening."""
        return tuple(self._checkpoints)

    def on(self, device: torch.device) -> ModelBank:
        """This bank for work on another device: the same sources, set up as this one is now.

        What is kept is shared, so that no tensor is kept twice; statistics are the device's own.
        """
        if device == self.device:
            return self
        self._banks.setdefault(self.device, self)
        if device not in self._banks:
            other = copy.copy(self)
            other.device, other._staged, other._known = device, {}, {}
            self._banks.setdefault(device, other)  # several threads may come here
        return self._banks[device]

    def at_home(self, name: str) -> ModelBank:
        """This bank on the device where tensors of that checkpoint name are kept; this one where nothing is said."""
        return self.on(self.homes[name]) if name in self.homes else self

    def tensor(self, key: InputKey) -> torch.Tensor:
        """A source tensor on the bank's device, in its stored dtype. Not to be written to."""
        if key in self._staged:
            return self._staged[key]
        if self.streams and self.stored(key):
            return self.host(key).to(self.device)
        kept = self._kept.get(key)
        if kept is None:
            if not self._keeps(key):
                return self._read(key)
            kept = self._kept[key] = self.at_home(key[1])._read(key)
        return kept.to(self.device)

    def holds(self, key: InputKey, tensor: torch.Tensor) -> bool:
        """Whether this is the source tensor that stays in memory, not one made of it."""
        return self._kept.get(key) is tensor

    @property
    def streams(self) -> bool:
        """Whether sources come from the host's memory, tensor by tensor."""
        return self.device.type != "cpu" and not self.resident

    def stored(self, key: InputKey) -> bool:
        """Whether a tensor is read from a checkpoint, not made of others."""
        source = self._checkpoints[key[0]]
        return isinstance(source, Checkpoint) and source.adapter is None and key not in self._derived

    def host(self, key: InputKey) -> torch.Tensor:
        """A stored tensor in the host's memory. Not to be written to."""
        if not self.pinned:
            return self._checkpoints[key[0]].tensor(key[1])
        if key not in self._pinned:
            self._pinned[key] = self._checkpoints[key[0]].tensor(key[1]).contiguous().pin_memory()
        return self._pinned[key]

    @contextmanager
    def staging(self, copies: Mapping[InputKey, torch.Tensor]) -> Iterator[None]:
        """Inside, `tensor` answers with these copies on the device."""
        self._staged = copies
        try:
            yield
        finally:
            self._staged = {}

    def _read(self, key: InputKey) -> torch.Tensor:
        make = self._derived.get(key)
        tensor = self._checkpoints[key[0]].tensor(key[1]) if make is None else make()
        tensor = tensor.to(self.device)
        # Kernels read runs of memory; what is kept for many candidates is made one.
        return tensor.contiguous() if self._keeps(key) and (self.resident or self.keep_deltas) else tensor

    def _keeps(self, key: InputKey) -> bool:
        """Whether a tensor is kept: a mapped one costs nothing; one that is made does, and pays in a search alone."""
        source = self._checkpoints[key[0]]
        if not isinstance(source, Checkpoint):  # intermediates are merged anew
            return False
        if self.streams:  # what is made would fill the device
            return False
        if self.resident or self.keep_deltas:
            return True
        return self.device.type == "cpu" and source.adapter is None and key not in self._derived

    def load(self, advance: Callable[[int], None]) -> None:
        """Read all sources in parallel, once: to the device where resident, into page-locked memory where pinned.

        Elsewhere they are read into the system's cache of files.

        `advance(n)` is told of every n bytes. Without it tensors are read when they are first asked for.
        """
        sources = [source for source in self._checkpoints.values() if isinstance(source, Checkpoint)]
        keys = [(source.reference, name) for source in sources for name in source.entries]
        with ThreadPoolExecutor(READERS) as pool:
            for nbytes in pool.map(self._load, keys):
                advance(nbytes)

    def _load(self, key: InputKey) -> int:
        tensor = self.host(key) if self.streams and self.stored(key) else self.tensor(key)
        if tensor.device.type == "cpu" and tensor.is_contiguous():
            tensor.view(-1).view(torch.uint8)[::PAGE].sum()  # one byte of every page
        return tensor.nbytes

    def statistics(self, keys: tuple[InputKey, ...], base: int | None, dtype: torch.dtype | None) -> InputStatistics:
        """Statistics of tensors, each cast to `dtype` first (None: as stored); what was computed once is kept.

        Results as large as a tensor are kept with `keep_deltas` alone.
        """

        def remember(name: Hashable, compute: Callable[[], Any]) -> Any:
            return self.remember((keys, dtype, name), compute)

        return InputStatistics(
            lambda: [cast_input(self.tensor(key), dtype) for key in keys],
            base,
            remember=remember,
            remember_tensor=remember if self.keep_deltas and not self.streams else compute_anew,
        )

    def derive(self, key: InputKey, make: Callable[[], torch.Tensor]) -> InputKey:
        """Give a tensor that is computed from the sources a key of its own, under which its statistics are kept too."""
        self._derived.setdefault(key, make)
        return key

    @property
    def known_bytes(self) -> int:
        """Bytes of the statistics that are remembered."""
        banks = self._banks.values() or (self,)
        return sum(getattr(value, "nbytes", 0) for bank in banks for value in bank._known.values())

    def recall(self, key: Hashable) -> Any:
        """What was remembered under a key; None where nothing was."""
        return self._known.get(key)

    def remember(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once for a key: for what follows from the sources and no candidate changes."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


def cast_input(stored: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """The tensor in a recipe's dtype (None: as stored), but not widened to float32: that is part of the arithmetic."""
    if dtype is None or (dtype == torch.float32 and torch.promote_types(stored.dtype, dtype) == dtype):
        return stored
    return stored.to(dtype)

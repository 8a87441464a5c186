"""Which source tensors stay in memory, and on which device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from ..checkpoints.source import ModelSource
from .pinned_memory import PinnedMemory

InputKey = tuple[str, str]  # model reference, canonical checkpoint name


@dataclass(frozen=True)
class Residency:
    """The tensors that a bank keeps in memory.

    Attributes:
        resident: copy tensors to the bank's device on first use and keep them there. Without it, tensors stay
            memory-mapped on the CPU, and are copied from the host's memory each time on other devices.
        pinned: keep tensors that are copied from the host in page-locked memory, so that copies run in parallel with
            computation. No effect on the CPU or with `resident`.
        keep_deltas: keep tensors that are computed from the sources without any searched parameter (merged adapters,
            rebuilt vocabularies, merged task vectors of spectral methods). They take as much memory as the models,
            which pays off if many candidates are merged, not for a single one.
        homes: for a model spread over several devices, the device on which each tensor is kept, by checkpoint name.
            On the other devices a kept tensor is copied each time.
    """

    resident: bool = False
    pinned: bool = False
    keep_deltas: bool = False
    homes: Mapping[str, torch.device] = field(default_factory=dict)


class ResidentTensors:
    """The tensors of a bank's sources on one device, kept in memory as a `Residency` asks."""

    def __init__(self, sources: Mapping[str, ModelSource], device: torch.device, residency: Residency) -> None:
        """Keep a reference to `sources`, which may grow."""
        self.device, self.residency = device, residency
        self._sources = sources
        self._kept: dict[InputKey, torch.Tensor] = {}
        self._pinned: dict[InputKey, torch.Tensor] = {}
        self._pinned_memory = PinnedMemory()
        self._staged: Mapping[InputKey, torch.Tensor] = {}
        self._derived: dict[InputKey, Callable[[], torch.Tensor]] = {}

    def on(self, device: torch.device) -> ResidentTensors:
        """Return the same tensors for use on another device. What is kept is shared, so no tensor is kept twice."""
        other = copy.copy(self)
        other.device, other._staged = device, {}
        return other

    def home(self, name: str) -> torch.device:
        """Return the device on which tensors of that checkpoint name are kept."""
        return self.residency.homes.get(name, self.device)

    def tensor(self, key: InputKey) -> torch.Tensor:
        """Return a source tensor on this device, in its stored dtype. It must not be written to."""
        if key in self._staged:
            return self._staged[key]
        if self.streams and self.mapped(key):
            return self.host(key).to(self.device)
        kept = self._kept.get(key)
        if kept is None:
            if not self._keeps(key):
                return self._read(key).to(self.device)
            kept = self._kept[key] = self._read_to_keep(key)
        return kept.to(self.device)

    def holds(self, key: InputKey, tensor: torch.Tensor) -> bool:
        """Whether `tensor` is the kept source tensor itself, not one computed from it."""
        return self._kept.get(key) is tensor

    @property
    def streams(self) -> bool:
        """Whether sources are copied from the host's memory tensor by tensor."""
        return self.device.type != "cpu" and not self.residency.resident

    @property
    def pin_failed(self) -> bool:
        """Whether host memory could not be page-locked although the residency asks for it."""
        return self._pinned_memory.failed

    def mapped(self, key: InputKey) -> bool:
        """Whether a tensor is read from a checkpoint as it is stored, not computed."""
        return self._sources[key[0]].mapped and key not in self._derived

    def host(self, key: InputKey) -> torch.Tensor:
        """Return a stored tensor in the host's memory. It must not be written to."""
        if not self.residency.pinned:
            return self._sources[key[0]].tensor(key[1])
        if key not in self._pinned:
            self._pinned[key] = self._pinned_memory.copy(self._sources[key[0]].tensor(key[1]))
        return self._pinned[key]

    @contextmanager
    def staging(self, copies: Mapping[InputKey, torch.Tensor]) -> Iterator[None]:
        """Let `tensor` return these copies on the device inside this context."""
        self._staged = copies
        try:
            yield
        finally:
            self._staged = {}

    def derive(self, key: InputKey, make: Callable[[], torch.Tensor]) -> InputKey:
        """Register a tensor that `make` computes from the sources under a key, and return the key."""
        self._derived.setdefault(key, make)
        return key

    def _read(self, key: InputKey) -> torch.Tensor:
        make = self._derived.get(key)
        return self._sources[key[0]].tensor(key[1]) if make is None else make()

    def _read_to_keep(self, key: InputKey) -> torch.Tensor:
        tensor = self._read(key).to(self.home(key[1]))
        # Kernels read contiguous memory faster, which pays off for tensors that serve many candidates.
        return tensor.contiguous() if self.residency.resident or self.residency.keep_deltas else tensor

    def _keeps(self, key: InputKey) -> bool:
        """Whether a tensor is kept. Mapped ones cost no memory; computed ones do, and pay off in a search only."""
        if not self._sources[key[0]].on_disk:  # tensors of intermediates are merged anew
            return False
        if self.streams:  # computed tensors would fill the device
            return False
        if self.residency.resident or self.residency.keep_deltas:
            return True
        return self.device.type == "cpu" and self.mapped(key)

"""Whether a run's sources are kept in page-locked host memory, from which they are copied to a device fastest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from ...merge_ops import ModelBank, pinned_bytes
from .host_memory import host_memory

SHARE = 0.5  # of the host's memory, for the page-locked sources of all workers on it


@dataclass(frozen=True)
class Pinning:
    """The page-locked memory of one worker, in bytes.

    Attributes:
        needed: memory that the sources take when page-locked, rounding included.
        allowed: this worker's part of the host's memory, or of the container's.
    """

    needed: int
    allowed: float

    @classmethod
    def of(cls, bank: ModelBank, *, workers: int) -> Pinning:
        """Return the memory needed by the sources of a bank, of which each of `workers` on this host has a copy."""
        entries = (entry for reference in bank.references for entry in bank[reference].entries.values())
        needed = pinned_bytes(prod(entry.shape) * entry.dtype.itemsize for entry in entries)
        return cls(needed, SHARE * host_memory() / workers)

    @property
    def pinned(self) -> bool:
        """Whether the sources are page-locked."""
        return self.needed <= self.allowed

    def sentences(self, bank: ModelBank) -> Iterator[str]:
        """Yield a line on page-locked sources, if they are copied from the host."""
        if not bank.tensors.streams:
            return
        if bank.tensors.pin_failed:
            yield "Sources in the host's memory are page-locked in part only: the system refused more."
        elif self.pinned:
            yield f"Sources in the host's memory are page-locked: {self.needed / 1e9:.1f} GB."
        else:
            yield (
                f"Sources in the host's memory are not page-locked, so copies are slower: they would take "
                f"{self.needed / 1e9:.1f} GB, and {self.allowed / 1e9:.1f} GB are allowed for each worker."
            )

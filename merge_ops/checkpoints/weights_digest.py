"""Digests of weights, independent of sharding, order and file format."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import torch

from .background import Background

HASHERS = 4  # threads; one hashes 0.5 to 2 GB/s, which is slower than reading and merging


class WeightsDigest:
    """SHA-256 over the lines "name dtype shape sha256(bytes)" of all tensors, sorted by name.

    The bytes are those of the contiguous tensor, little-endian.
    """

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    @classmethod
    def of(cls, tensors: Iterable[tuple[str, torch.Tensor]]) -> WeightsDigest:
        """Return the digest of named tensors."""
        digest = cls()
        with Background(HASHERS) as hashing:
            for name, tensor in tensors:
                digest._expect(name)
                hashing.submit(digest.take, tensor.detach().cpu(), name)
        return digest

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Add one tensor.

        Raises:
            ValueError: a tensor of that name was added before.
        """
        self._expect(name)
        self.take(tensor, name)

    def _expect(self, name: str) -> None:
        if name in self._lines:
            raise ValueError(f"the tensor '{name}' was added twice")
        self._lines[name] = ""

    def take(self, tensor: torch.Tensor, name: str) -> None:
        """Do the same as `add` without checking that the name is new; several threads may call it at the same time."""
        dtype = str(tensor.dtype).removeprefix("torch.")
        shape = ",".join(map(str, tensor.shape))
        self._lines[name] = f"{name} {dtype} [{shape}] {tensor_digest(tensor)}"

    def watch(self, stream: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield named tensors from a stream, adding each."""
        for name, tensor in stream:
            self.add(name, tensor)
            yield name, tensor

    @property
    def hex(self) -> str:
        """The digest of the tensors added so far, 64 hexadecimal digits."""
        return hashlib.sha256("\n".join(self._lines[name] for name in sorted(self._lines)).encode()).hexdigest()


def tensor_digest(tensor: torch.Tensor) -> str:
    """Return the SHA-256 of a tensor's bytes."""
    return hashlib.sha256(bytes_of(tensor.detach().cpu().contiguous())).hexdigest()


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a contiguous CPU tensor, not copied."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data

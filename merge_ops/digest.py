"""Digests of weights that do not depend on sharding, order or file format."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import torch


class WeightsDigest:
    """SHA-256 over the lines "name dtype shape sha256(bytes)" of all tensors, sorted by name.

    The bytes are those of the contiguous tensor in little-endian order.
    """

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    @classmethod
    def of(cls, tensors: Iterable[tuple[str, torch.Tensor]]) -> WeightsDigest:
        """The digest of named tensors."""
        digest = cls()
        for name, tensor in tensors:
            digest.add(name, tensor)
        return digest

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Take in one tensor; each name once."""
        if name in self._lines:
            raise ValueError(f"the tensor '{name}' came twice")
        dtype = str(tensor.dtype).removeprefix("torch.")
        shape = ",".join(map(str, tensor.shape))
        self._lines[name] = f"{name} {dtype} [{shape}] {tensor_digest(tensor)}"

    def watch(self, stream: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        """Pass a stream of named tensors on, taking in each."""
        for name, tensor in stream:
            self.add(name, tensor)
            yield name, tensor

    @property
    def hex(self) -> str:
        """The digest of what came so far, 64 hexadecimal digits."""
        return hashlib.sha256("\n".join(self._lines[name] for name in sorted(self._lines)).encode()).hexdigest()


def tensor_digest(tensor: torch.Tensor) -> str:
    """SHA-256 of a tensor's bytes."""
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(data.numpy().data).hexdigest()

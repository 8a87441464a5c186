"""Writes safetensors files one tensor at a time; their headers come first, so shapes and dtypes are given in advance.

Format: the header's length (8 bytes, little-endian), the header (JSON, padded with spaces to a multiple of 8 bytes),
the tensors' bytes without gaps (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch

from ..checkpoints.background import Background
from ..checkpoints.weight_files import DTYPES, INDEX, SINGLE, TensorSpec
from ..checkpoints.weights_digest import HASHERS, WeightsDigest, bytes_of

NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_shards(
    stream: Iterable[tuple[str, torch.Tensor]], specs: Mapping[str, TensorSpec], folder: Path, limit: int
) -> tuple[list[str], WeightsDigest]:
    """Write the tensors of a stream, described by `specs`, into files of at most `limit` bytes.

    A larger tensor gets a separate file. Writing and hashing run in parallel with the merge of further tensors.
    Return the names of the files, including the index, and the digest.

    Raises:
        RuntimeError: a tensor differs from its spec or is missing.
    """
    shards = _split(specs, limit)
    files = {SINGLE: shards[0]} if len(shards) == 1 else _numbered(shards)
    digest, left = WeightsDigest(), dict(specs)
    with _Files(folder, files, specs) as disk, Background(1) as writing, Background(HASHERS) as hashing:
        for name, tensor in stream:
            if TensorSpec(tuple(tensor.shape), tensor.dtype) != left.pop(name):
                raise RuntimeError(f"'{name}' should be {specs[name]}, but is {tensor.dtype} {list(tensor.shape)}")
            here = tensor.detach().cpu().contiguous()
            writing.submit(disk.write, here, name)
            hashing.submit(digest.take, here, name)
    if left:
        raise RuntimeError(f"the merge has no tensor for {list(left)[:5]}")
    if len(files) == 1:
        return list(files), digest
    return [*files, _write_index(folder, files, specs)], digest


class _Files:
    """The files of a merge, each opened at its first tensor and closed after its last."""

    def __init__(self, folder: Path, files: Mapping[str, list[str]], specs: Mapping[str, TensorSpec]) -> None:
        self._folder, self._files, self._specs = folder, files, specs
        self._of = {tensor: name for name, tensors in files.items() for tensor in tensors}
        self._name = ""
        self._file: BinaryIO | None = None
        self._offsets: dict[str, int] = {}

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, tensor: torch.Tensor, name: str) -> None:
        """Write a contiguous tensor at its offset. All tensors of a file must be written before those of another."""
        file = self._file if self._of[name] == self._name else None
        if file is None:
            file = self._next(self._of[name])
        data = bytes_of(tensor)
        file.seek(self._offsets[name])
        while data:
            data = data[file.write(data) :]

    def _next(self, name: str) -> BinaryIO:
        if self._file is not None:
            self._file.close()
        self._name = name
        self._file = (self._folder / name).open("xb", buffering=0)
        self._offsets = _begin(self._file, self._files[name], self._specs)
        return self._file


def _split(specs: Mapping[str, TensorSpec], limit: int) -> list[list[str]]:
    """Split the tensors' names, in order, into lists of at most `limit` bytes."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, spec in specs.items():
        if shards[-1] and size + spec.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += spec.nbytes
    return shards


def _numbered(shards: list[list[str]]) -> dict[str, list[str]]:
    return {f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors": names for i, names in enumerate(shards)}


def _begin(file: BinaryIO, names: Iterable[str], specs: Mapping[str, TensorSpec]) -> dict[str, int]:
    """Write a file's header and return the offset of each tensor. Wide dtypes come first, so all are aligned."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offsets: dict[str, int] = {}
    end = 0
    for name in sorted(names, key=lambda name: (-specs[name].dtype.itemsize, NAMES[specs[name].dtype], name)):
        spec, offsets[name] = specs[name], end
        end += spec.nbytes
        header[name] = {"dtype": NAMES[spec.dtype], "shape": spec.shape, "data_offsets": (offsets[name], end)}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    return {name: 8 + len(text) + offset for name, offset in offsets.items()}


def _write_index(folder: Path, files: Mapping[str, list[str]], specs: Mapping[str, TensorSpec]) -> str:
    weight_map = {tensor: name for name, tensors in files.items() for tensor in tensors}
    total = sum(spec.nbytes for spec in specs.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return INDEX

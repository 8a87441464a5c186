"""The weight files of a folder, opened for reading: safetensors, or pickles that contain only tensors."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from mergesmith.errors import UserError, first_few, first_line

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}
FLOAT8 = frozenset(dtype for name, dtype in DTYPES.items() if name.startswith("F8_"))
CONVERT = (
    "If you trust it, convert it: load it with transformers' from_pretrained and write it with save_pretrained, "
    "which writes safetensors"
)


@dataclass(frozen=True)
class Header:
    """Name, shape and dtype of a stored tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


class TensorFile(Protocol):
    """A weight file. Opening it reads headers only; tensors are memory-mapped."""

    def headers(self) -> Iterator[Header]:
        """Yield the header of every tensor in the file."""
        ...

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor. It must not be written to."""
        ...


class SafetensorsFile:
    """A .safetensors file."""

    def __init__(self, path: Path, reference: str) -> None:
        """Open the file.

        Raises:
            UserError: the file is damaged or truncated.
        """
        self._reference = reference
        try:
            self._file: Any = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"model '{reference}': {path} is damaged or truncated: {error}. Download it again."
            ) from None

    def headers(self) -> Iterator[Header]:
        """Yield the header of every tensor in the file.

        Raises:
            UserError: the dtype of a tensor is not supported.
        """
        for name in self._file.keys():  # noqa: SIM118 - a safetensors file, not a mapping
            part = self._file.get_slice(name)
            dtype = DTYPES.get(part.get_dtype())
            if dtype is None:
                raise _not_merged(self._reference, name, part.get_dtype())
            yield Header(name, tuple(part.get_shape()), dtype)

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor, memory-mapped."""
        return self._file.get_tensor(name)


class TorchFile:
    """A file written by torch.save. Its pickle is read by torch's restricted unpickler, which runs no code."""

    def __init__(self, path: Path, reference: str) -> None:
        """Open the file.

        Raises:
            UserError: the file is damaged, contains other objects than tensors, has the format of torch before 1.6, or
                does not contain a mapping from names to tensors.
        """
        self._reference = reference
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            raise UserError(
                f"model '{reference}': {path} contains {_wanted(error)} besides tensors; reading it could run "
                f"arbitrary code, so it is rejected. {CONVERT}."
            ) from None
        except (RuntimeError, OSError, EOFError, ValueError) as error:
            if "mmap can only be used" in str(error) and path.stat().st_size:
                raise UserError(
                    f"model '{reference}': {path} is damaged or in the format of torch before 1.6, which cannot be "
                    f"memory-mapped. {CONVERT}."
                ) from None
            raise UserError(
                f"model '{reference}': {path} is damaged or truncated: {first_line(error)}. Download it again."
            ) from None
        self._tensors = _tensors_of(content, path, reference)

    def headers(self) -> Iterator[Header]:
        """Yield the header of every tensor in the file.

        Raises:
            UserError: the dtype of a tensor is not supported.
        """
        for name, tensor in self._tensors.items():
            if tensor.dtype not in DTYPES.values() or tensor.layout != torch.strided:
                raise _not_merged(self._reference, name, tensor.dtype)
            yield Header(name, tuple(tensor.shape), tensor.dtype)

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor, memory-mapped."""
        return self._tensors[name]


def open_file(path: Path, reference: str) -> TensorFile:
    """Open a file by its suffix; see `SafetensorsFile` and `TorchFile` for errors."""
    return TorchFile(path, reference) if path.suffix == ".bin" else SafetensorsFile(path, reference)


def open_weights(folder: Path, reference: str) -> dict[Path, TensorFile]:
    """Open the weight files of a checkpoint folder; if it has both kinds, the safetensors.

    Raises:
        UserError: there are none, one is missing or damaged, or there are both a single file and an index.
    """
    for single, index in ((SINGLE, INDEX), (PICKLE, PICKLE_INDEX)):
        if (folder / single).is_file() or (folder / index).is_file():
            return {path: open_file(path, reference) for path in _listed(folder, single, index, reference)}
    others = sorted(path.name for pattern in ("*.bin", "*.safetensors", "*.pt*") for path in folder.glob(pattern))
    hint = f" (it contains {first_few(others)})" if others else ""
    raise UserError(
        f"model '{reference}': no {SINGLE} and no {INDEX} in {folder}{hint}. Checkpoints are read from these files, as "
        f"save_pretrained writes them, or from {PICKLE} or {PICKLE_INDEX}."
    )


def _listed(folder: Path, single: str, index: str, reference: str) -> list[Path]:
    if not (folder / index).is_file():
        return [folder / single]
    if (folder / single).is_file():
        raise UserError(
            f"model '{reference}': {folder} contains both {single} and {index}, and programs read different "
            "ones; remove the outdated one"
        )
    try:
        content = json.loads((folder / index).read_text(encoding="utf-8"))
        names = sorted(set(content["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"model '{reference}': {folder / index} cannot be read: {error}") from None
    lost = [name for name in names if not (folder / name).is_file()]
    if lost:
        raise UserError(
            f"model '{reference}': {folder / index} names files that do not exist: {first_few(lost)}. "
            "Download them again."
        )
    return [folder / name for name in names]


def _tensors_of(content: object, path: Path, reference: str) -> dict[str, torch.Tensor]:
    if not isinstance(content, dict):
        raise UserError(
            f"model '{reference}': {path} contains a {type(content).__name__}, not tensors by name. {CONVERT}."
        )
    others = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise UserError(
            f"model '{reference}': {path} contains entries that are not tensors ({first_few(others)}): a training "
            "state, not only weights. Use the file that save_pretrained wrote."
        )
    return {str(name): value.detach() for name, value in content.items()}


def _wanted(error: pickle.UnpicklingError) -> str:
    match = re.search(r"GLOBAL (\S+)", str(error))
    return f"Python objects ({match.group(1)})" if match else "Python objects"


def _not_merged(reference: str, name: str, dtype: object) -> UserError:
    return UserError(
        f"model '{reference}': tensor '{name}' has dtype {dtype}, which is not supported; use a checkpoint with "
        "weights in bfloat16, float16 or float32 (if these are quantized, the one that they were quantized from)"
    )


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of an output tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return prod(self.shape) * self.dtype.itemsize

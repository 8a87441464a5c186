"""The weight files of a folder, opened for reading: safetensors, or pickles that hold nothing but tensors."""

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
}
CONVERT = (
    "If you trust it, convert it: load it with transformers' from_pretrained and write it with save_pretrained, "
    "which makes safetensors"
)


@dataclass(frozen=True)
class Header:
    """What one stored tensor is."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


class TensorFile(Protocol):
    """One weight file. Opening it reads headers only; tensors are memory-mapped."""

    def headers(self) -> Iterator[Header]:
        """Every tensor in the file."""
        ...

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, not to be written to."""
        ...


class SafetensorsFile:
    """A .safetensors file."""

    def __init__(self, path: Path, reference: str) -> None:
        """Open it.

        Raises:
            UserError: it is damaged or cut short.
        """
        self._reference = reference
        try:
            self._file: Any = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise UserError(f"model '{reference}': {path} is damaged or cut short: {error}. Fetch it again.") from None

    def headers(self) -> Iterator[Header]:
        """Every tensor in the file.

        Raises:
            UserError: a tensor is of a dtype that is not merged.
        """
        for name in self._file.keys():  # noqa: SIM118 - a safetensors file, not a mapping
            part = self._file.get_slice(name)
            dtype = DTYPES.get(part.get_dtype())
            if dtype is None:
                raise _not_merged(self._reference, name, part.get_dtype())
            yield Header(name, tuple(part.get_shape()), dtype)

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, memory-mapped."""
        return self._file.get_tensor(name)


class TorchFile:
    """A file that torch.save wrote. Its pickle is read by torch's own restricted reader and runs no code."""

    def __init__(self, path: Path, reference: str) -> None:
        """Open it.

        Raises:
            UserError: it is damaged, needs more than tensors, is of the format before torch 1.6, or holds no mapping
                from names to tensors.
        """
        self._reference = reference
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            raise UserError(
                f"model '{reference}': {path} holds {_wanted(error)} beside tensors; reading it could run code of its "
                f"author, so it is refused. {CONVERT}."
            ) from None
        except (RuntimeError, OSError, EOFError, ValueError) as error:
            if "mmap can only be used" in str(error) and path.stat().st_size:
                raise UserError(
                    f"model '{reference}': {path} is damaged or in the format of torch before 1.6, which cannot be "
                    f"memory-mapped. {CONVERT}."
                ) from None
            raise UserError(
                f"model '{reference}': {path} is damaged or cut short: {first_line(error)}. Fetch it again."
            ) from None
        self._tensors = _tensors_of(content, path, reference)

    def headers(self) -> Iterator[Header]:
        """Every tensor in the file.

        Raises:
            UserError: a tensor is of a dtype that is not merged.
        """
        for name, tensor in self._tensors.items():
            if tensor.dtype not in DTYPES.values() or tensor.layout != torch.strided:
                raise _not_merged(self._reference, name, tensor.dtype)
            yield Header(name, tuple(tensor.shape), tensor.dtype)

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, memory-mapped."""
        return self._tensors[name]


def open_file(path: Path, reference: str) -> TensorFile:
    """The file, opened by its kind. Raises as the kinds do."""
    return TorchFile(path, reference) if path.suffix == ".bin" else SafetensorsFile(path, reference)


def open_weights(folder: Path, reference: str) -> dict[Path, TensorFile]:
    """The weight files of a checkpoint folder; where both kinds are there, the safetensors.

    Raises:
        UserError: there are none, one is missing or damaged, or a single file and an index contradict each other.
    """
    for single, index in ((SINGLE, INDEX), (PICKLE, PICKLE_INDEX)):
        if (folder / single).is_file() or (folder / index).is_file():
            return {path: open_file(path, reference) for path in _listed(folder, single, index, reference)}
    others = sorted(path.name for pattern in ("*.bin", "*.safetensors", "*.pt*") for path in folder.glob(pattern))
    hint = f" (it holds {first_few(others)})" if others else ""
    raise UserError(
        f"model '{reference}': no {SINGLE} and no {INDEX} in {folder}{hint}. Checkpoints are read from these files, as "
        f"save_pretrained writes them, or from {PICKLE} or {PICKLE_INDEX}."
    )


def _listed(folder: Path, single: str, index: str, reference: str) -> list[Path]:
    if not (folder / index).is_file():
        return [folder / single]
    if (folder / single).is_file():
        raise UserError(
            f"model '{reference}': {folder} holds both {single} and {index}, and programs differ in which they read; "
            "remove the one that is out of date"
        )
    try:
        content = json.loads((folder / index).read_text(encoding="utf-8"))
        names = sorted(set(content["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"model '{reference}': {folder / index} cannot be read: {error}") from None
    lost = [name for name in names if not (folder / name).is_file()]
    if lost:
        raise UserError(
            f"model '{reference}': {folder / index} names files that do not exist: {first_few(lost)}. Fetch them again."
        )
    return [folder / name for name in names]


def _tensors_of(content: object, path: Path, reference: str) -> dict[str, torch.Tensor]:
    if not isinstance(content, dict):
        raise UserError(
            f"model '{reference}': {path} holds a {type(content).__name__}, not tensors by name. {CONVERT}."
        )
    others = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise UserError(
            f"model '{reference}': {path} holds entries that are no tensors ({first_few(others)}): a training state, "
            "not the weights alone. Take the file that save_pretrained wrote."
        )
    return {str(name): value.detach() for name, value in content.items()}


def _wanted(error: pickle.UnpicklingError) -> str:
    found = re.search(r"GLOBAL (\S+)", str(error))
    return f"Python objects ({found.group(1)})" if found else "Python objects"


def _not_merged(reference: str, name: str, dtype: object) -> UserError:
    return UserError(f"model '{reference}': tensor '{name}' is of dtype {dtype}, which is not merged")


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor will be."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Its size."""
        return prod(self.shape) * self.dtype.itemsize

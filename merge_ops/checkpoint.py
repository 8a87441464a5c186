"""A checkpoint folder, opened for reading: safetensors files, their index, configuration and tokenizer."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from mergesmith.errors import Faults, UserError

from .architecture import Architecture, architecture_of
from .digest import WeightsDigest
from .resolve import resolve_reference
from .stored_names import Part

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# What decides how text becomes token ids, best first: the first that exists is compared between sources.
VOCABULARY_FILES = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"), ("vocab.txt",))


class CheckpointWarning(UserWarning):
    """A checkpoint holds something that is not used."""


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies and what it is; `part` is the part of the stored tensor where it is not all of it."""

    file: Path
    stored_name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    part: Part | None = None


class Checkpoint:
    """One source model. Tensors are memory-mapped and read when asked for, by their canonical checkpoint name."""

    def __init__(self, reference: str, *, roots: Sequence[Path] = ()) -> None:
        """Open the folder that `reference` names and read the headers of its files.

        Raises:
            UserError: the folder, its config.json or a shard is missing, damaged, or they disagree.
        """
        self.reference = reference
        self.folder = resolve_reference(reference, roots)
        self.architecture: Architecture = architecture_of(self.folder, reference)
        if self.architecture.quantized:
            raise UserError(
                f"model '{reference}': its weights are quantized (config.json has a quantization_config), and codes "
                "cannot be averaged; take the checkpoint it was made from, or write a dequantized one"
            )
        self._files = {path: _open(path, reference) for path in _weight_files(self.folder, reference)}
        self.entries = self._read_entries()

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor of that canonical name, as stored, memory-mapped."""
        entry = self.entries[name]
        stored = self._files[entry.file].get_tensor(entry.stored_name)
        return stored if entry.part is None else entry.part.of(stored)

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json as it stands."""
        return json.loads((self.folder / "config.json").read_text(encoding="utf-8"))

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all tensors, as stored."""
        return sum(prod(entry.shape) * entry.dtype.itemsize for entry in self.entries.values())

    @cached_property
    def weights_digest(self) -> str:
        """SHA-256 over all tensors, independent of sharding (`digest.py`)."""
        digest = WeightsDigest()
        for name in self.entries:
            digest.add(name, self.tensor(name))
        return digest.hex

    @cached_property
    def tokenizer_digest(self) -> str | None:
        """SHA-256 of the files that turn text into token ids; None where there are none."""
        return next((_sha256(map(_rules, paths)) for paths in self._vocabulary_files().values()), None)

    @cached_property
    def vocabularies(self) -> dict[str, str]:
        """SHA-256 of which token each id stands for, by the kind of file that says so, the best kind first."""
        return {kind: _sha256(map(_tokens, paths)) for kind, paths in self._vocabulary_files().items()}

    def _vocabulary_files(self) -> dict[str, list[Path]]:
        found = {names[0]: [self.folder / name for name in names] for names in VOCABULARY_FILES}
        return {kind: paths for kind, paths in found.items() if all(path.is_file() for path in paths)}

    def _read_entries(self) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        ties: list[tuple[str, Entry]] = []
        unused: list[str] = []
        twice: list[str] = []
        for canonical, entry in self._canonical():
            if canonical in self.architecture.ties:
                ties.append((canonical, entry))
            elif canonical in self.architecture.shapes:
                twice += [canonical] if canonical in entries else []
                entries[canonical] = entry
            else:
                unused.append(canonical)
        if twice:
            raise UserError(f"model '{self.reference}': its files hold these tensors twice: {_some(twice)}")
        for canonical, entry in ties:
            # A shared tensor may be stored under either of its names.
            entries.setdefault(self.architecture.ties[canonical], entry)
        self._check(entries, ties)
        if unused:
            warnings.warn(
                f"model '{self.reference}': {len(unused)} tensors that its configuration does not know are left out: "
                + _some(unused),
                CheckpointWarning,
                stacklevel=3,
            )
        return dict(sorted(entries.items()))

    def _canonical(self) -> Iterator[tuple[str, Entry]]:
        """Every canonical tensor in the files, those that loading ignores left out; unknown ones by their own names."""
        for stored_name, entry in self._stored():
            for name, part in (self.architecture.names.canonical(stored_name) or {}).items():
                yield name, entry if part is None else replace(entry, part=part, shape=part.shape)

    def _stored(self) -> Iterator[tuple[str, Entry]]:
        for path, file in self._files.items():
            for name in file.keys():  # noqa: SIM118 - a safetensors file, not a mapping
                part = file.get_slice(name)
                dtype = _DTYPES.get(part.get_dtype())
                if dtype is None:
                    raise UserError(
                        f"model '{self.reference}': tensor '{name}' is of dtype {part.get_dtype()}, which is not merged"
                    )
                yield name, Entry(path, name, tuple(part.get_shape()), dtype)

    def _check(self, entries: dict[str, Entry], ties: list[tuple[str, Entry]]) -> None:
        faults = Faults(f"model '{self.reference}'")
        missing = [name for name in self.architecture.shapes if name not in entries]
        if missing:
            faults.add("", f"{len(missing)} tensors that config.json describes are not in its files: {_some(missing)}")
        for name, entry in entries.items():
            if entry.shape != self.architecture.shapes[name]:
                wanted = self.architecture.shapes[name]
                faults.add(name, f"has shape {list(entry.shape)}, but config.json describes {list(wanted)}")
        faults.raise_if_any()
        for name, entry in ties:
            # Some writers store a shared tensor twice; equal copies are one tensor.
            target = entries[self.architecture.ties[name]]
            if target == entry:
                continue
            copies = [self._files[e.file].get_tensor(e.stored_name) for e in (entry, target)]
            if not torch.equal(*copies):
                faults.add(
                    name,
                    f"differs from '{self.architecture.ties[name]}', but config.json ties them; "
                    "set tie_word_embeddings: false there if they are meant to differ",
                )
        faults.raise_if_any()


def _weight_files(folder: Path, reference: str) -> list[Path]:
    if (folder / INDEX).is_file() and (folder / SINGLE).is_file():
        raise UserError(
            f"model '{reference}': {folder} holds both {SINGLE} and {INDEX}, and programs differ in which they read; "
            "remove the one that is out of date"
        )
    if (folder / INDEX).is_file():
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            names = sorted(set(index["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(f"model '{reference}': {folder / INDEX} cannot be read: {error}") from None
        lost = [name for name in names if not (folder / name).is_file()]
        if lost:
            raise UserError(f"model '{reference}': {folder / INDEX} names files that do not exist: {_some(lost)}")
        return [folder / name for name in names]
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    others = sorted(path.name for path in folder.glob("*.bin")) + sorted(p.name for p in folder.glob("*.safetensors"))
    hint = f" (it holds {_some(others)})" if others else ""
    raise UserError(
        f"model '{reference}': no {SINGLE} and no {INDEX} in {folder}{hint}. "
        "Checkpoints are read from safetensors files, as save_pretrained writes them."
    )


def _open(path: Path, reference: str) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"model '{reference}': {path} is damaged or cut short: {error}. Fetch it again.") from None


def _sha256(parts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _rules(path: Path) -> bytes:
    """The part of a tokenizer file that maps text to ids: truncation and padding settings are not part of it."""
    content = _tokenizer_json(path)
    if content is None:
        return path.read_bytes()
    kept = {key: content.get(key) for key in ("model", "added_tokens", "normalizer", "pre_tokenizer")}
    return json.dumps(kept, sort_keys=True).encode()


def _tokens(path: Path) -> bytes:
    """The part of a tokenizer file that says what each id stands for, whatever library version wrote it."""
    content = _tokenizer_json(path)
    if content is None:
        return path.read_bytes()
    model = content.get("model") or {}
    vocabulary = model.get("vocab") or {}
    if isinstance(vocabulary, list):  # unigram models list [token, score]
        vocabulary = {token: i for i, (token, _) in enumerate(vocabulary)}
    vocabulary = {**vocabulary, **{token["content"]: token["id"] for token in content.get("added_tokens") or ()}}
    return json.dumps(sorted(vocabulary.items())).encode()


def _tokenizer_json(path: Path) -> dict[str, Any] | None:
    if path.name != "tokenizer.json":
        return None
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def _some(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


_DTYPES = {
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

"""A checkpoint on disk, opened for reading: weight files, configuration, tokenizer, and an optional LoRA adapter."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mergesmith.errors import Faults, UserError, first_few

from ..architectures.architecture import Architecture
from ..architectures.cache import architecture_of
from . import tokenizer_files
from .checkpoint_warning import CheckpointWarning
from .find_model import find_folders
from .lora_adapter import LoraAdapter
from .quantized import REMEDY, raise_if_quantized
from .source import ModelSource, TensorEntry
from .weight_files import FLOAT8, open_weights
from .weights_digest import WeightsDigest

SAMPLED = 512  # elements at each end of a tensor that are hashed


class Checkpoint(ModelSource):
    """A source model on disk. Tensors are memory-mapped and read on access, by canonical checkpoint name.

    float8 tensors without scales are read as bfloat16, which represents them exactly.

    With an adapter, `folder`, configuration, tokenizer, shapes and dtypes are those of its base.
    """

    def __init__(self, reference: str, *, roots: Sequence[Path] = (), trust_remote_code: bool = False) -> None:
        """Open the folders that `reference` names and read the headers of their weight files.

        Relative paths are searched below `roots`; see `find_folders`.

        Raises:
            UserError: a folder, its config.json or a shard is missing or damaged, config.json and the weight files
                disagree, or the weights are quantized.
        """
        self.reference, self._trust_remote_code = reference, trust_remote_code
        folders = find_folders(reference, roots)
        self.folder = folders.model
        self.architecture: Architecture = architecture_of(self.folder, reference, trust_remote_code=trust_remote_code)
        if self.architecture.quantized:
            raise UserError(
                f"model '{reference}': its weights are quantized (config.json has a quantization_config), and {REMEDY}"
            )
        self._files = open_weights(self.folder, reference)
        self._widened = False
        self.entries = self._read_entries()
        self.adapter = None if folders.lora is None else LoraAdapter(folders.lora, reference, self.architecture)
        if self.adapter is not None and self.adapter.tied_changes:
            self._warn(
                f"its adapter changes {first_few(self.adapter.tied_changes)}, which the base uses twice (embeddings "
                "and head): the merge changes both uses, as in PEFT, although training changed only one"
            )

    def tensor(self, name: str) -> torch.Tensor:
        """Return the tensor of a canonical name: as stored, memory-mapped, or with the adapter merged into it."""
        stored = self._stored_tensor(self.entries[name])
        return stored if self.adapter is None else self.adapter.merged(name, stored)

    def tokenizer(self) -> Any:
        """Return the tokenizer, loaded anew by transformers; see `ModelSource.tokenizer`."""
        return tokenizer_files.load_tokenizer(self.folder, self.reference, trust_remote_code=self._trust_remote_code)

    def write_tokenizer(self, folder: Path) -> None:
        """Copy the tokenizer's files into `folder`."""
        tokenizer_files.copy_tokenizer(self.folder, folder)

    @property
    def tokenizer_folder(self) -> Path:
        """The checkpoint's folder."""
        return self.folder

    @property
    def chat_template(self) -> str | None:
        """The chat template in the checkpoint's folder, or None."""
        return tokenizer_files.chat_template_in(self.folder)

    @property
    def generation_config(self) -> dict[str, Any] | None:
        """The content of generation_config.json, or None if there is none."""
        path = self.folder / "generation_config.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    @property
    def on_disk(self) -> bool:
        """True: this is a checkpoint on disk."""
        return True

    @property
    def mapped(self) -> bool:
        """Whether tensors are returned as stored: an adapter changes them, and float8 is converted."""
        return self.adapter is None and not self._widened

    @property
    def folders(self) -> tuple[Path, ...]:
        """Every folder that is read: the model's, and the adapter's if there is one."""
        return (self.folder,) if self.adapter is None else (self.folder, self.adapter.folder)

    def _stored_tensor(self, entry: TensorEntry) -> torch.Tensor:
        stored = self._files[entry.file].tensor(entry.stored_name)
        return (stored if entry.part is None else entry.part.of(stored)).to(entry.dtype)

    def _read_config(self) -> dict[str, Any]:
        return json.loads((self.folder / "config.json").read_text(encoding="utf-8"))

    def _sampled_digest(self) -> str:
        """Return the SHA-256 over the name, dtype, shape and the first and last elements of every tensor.

        It distinguishes models without reading all weights, unlike `weights_digest`.
        """
        digest = WeightsDigest()
        for name, entry in self.entries.items():
            flat = self.tensor(name).reshape(-1)
            digest.add(f"{name} {list(entry.shape)}", torch.cat((flat[:SAMPLED], flat[-SAMPLED:])))
        return digest.hex

    def _tokenizer_digest(self) -> str | None:
        return tokenizer_files.tokenizer_digest(self.folder)

    def _vocabularies(self) -> Mapping[str, str]:
        return tokenizer_files.vocabulary_digests(self.folder)

    def _read_entries(self) -> dict[str, TensorEntry]:
        entries: dict[str, TensorEntry] = {}
        ties: list[tuple[str, TensorEntry]] = []
        unused: list[str] = []
        twice: list[str] = []
        stored = list(self._stored())
        for canonical, entry in self._canonical(stored):
            if canonical in self.architecture.ties:
                ties.append((canonical, entry))
            elif canonical in self.architecture.shapes:
                twice += [canonical] if canonical in entries else []
                entries[canonical] = entry
            else:
                unused.append(canonical)
        if twice:
            raise UserError(f"model '{self.reference}': its files contain these tensors twice: {first_few(twice)}")
        for canonical, entry in ties:
            # A shared tensor may be stored under either name.
            entries.setdefault(self.architecture.ties[canonical], entry)
        raise_if_quantized(self.reference, [name for name, _ in stored], entries)
        self._check(entries, ties)
        if self._widened:
            self._warn("some of its weights are float8; they are read as bfloat16, which represents them exactly")
        if unused:
            self._warn(
                f"{len(unused)} tensors that its configuration does not describe are ignored: {first_few(unused)}"
            )
        return dict(sorted(entries.items()))

    def _warn(self, message: str) -> None:
        warnings.warn(f"model '{self.reference}': {message}", CheckpointWarning, stacklevel=3)

    def _canonical(self, stored: Sequence[tuple[str, TensorEntry]]) -> Iterator[tuple[str, TensorEntry]]:
        """Yield every canonical tensor in the files except those that loading ignores; unknown ones by stored name."""
        for stored_name, entry in stored:
            for name, part in (self.architecture.names.canonical(stored_name) or {}).items():
                yield name, entry if part is None else replace(entry, part=part, shape=part.shape)

    def _stored(self) -> Iterator[tuple[str, TensorEntry]]:
        for path, file in self._files.items():
            for header in file.headers():
                float8 = header.dtype in FLOAT8
                self._widened |= float8
                dtype = torch.bfloat16 if float8 else header.dtype
                yield header.name, TensorEntry(path, header.name, header.shape, dtype)

    def _check(self, entries: dict[str, TensorEntry], ties: list[tuple[str, TensorEntry]]) -> None:
        faults = Faults(f"model '{self.reference}'")
        missing = [name for name in self.architecture.shapes if name not in entries]
        if missing:
            faults.add(
                "", f"{len(missing)} tensors that config.json describes are not in its files: {first_few(missing)}"
            )
        for name, entry in entries.items():
            if entry.shape != self.architecture.shapes[name]:
                wanted = self.architecture.shapes[name]
                faults.add(name, f"has shape {list(entry.shape)}, but config.json describes {list(wanted)}")
        faults.raise_if_any()
        for name, entry in ties:
            # Some writers store a shared tensor twice; equal copies count as one tensor.
            target = entries[self.architecture.ties[name]]
            if target == entry:
                continue
            copies = [self._stored_tensor(e) for e in (entry, target)]
            if not torch.equal(*copies):
                faults.add(
                    name,
                    f"differs from '{self.architecture.ties[name]}', but config.json ties them; "
                    "set tie_word_embeddings: false there if they are meant to differ",
                )
        faults.raise_if_any()

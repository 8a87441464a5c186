"""A LoRA adapter in PEFT's format, merged into its base in memory, one tensor at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mergesmith.errors import Faults, UserError, first_few

from ..architectures.architecture import Architecture
from ..numerics.reductions import one_thread
from .lora_config import MERGE_IT, REASONS, LoraConfig, lora_config
from .weight_files import Header, TensorFile, open_file

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."
FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.default)?(?:\.weight)?")
WRAPPED = re.compile(r"\.(?:modules_to_save(?:\.default)?|base_layer)(?=\.)")
# The base's weights beside those that replace them (modules_to_save). PEFT does not load them either.
UNTRAINED = re.compile(r"\.original_module\.")


@dataclass(frozen=True)
class _Update:
    """The update `scale * B A` of one tensor: stored names of A (`down`) and B (`up`); `transposed` means (B A)^T."""

    down: str
    up: str
    scale: float
    transposed: bool


class LoraAdapter:
    """The changes that an adapter makes to the tensors of its base.

    Equal to PEFT's `merge_and_unload` up to rounding: PEFT computes in the dtype of the weights; here the arithmetic is
    float32 (float64 if the base is), rounded once to the base tensor's dtype.
    """

    def __init__(self, folder: Path, reference: str, architecture: Architecture) -> None:
        """Open the adapter and check it against the architecture of its base.

        Raises:
            UserError: a file is missing or damaged, the adapter is not plain LoRA, or a tensor does not fit the base.
        """
        self.folder, self.reference = folder, reference
        self._architecture = architecture
        config = lora_config(folder, reference)
        self._file = self._open()
        self._updates: dict[str, _Update] = {}
        self._replaced: dict[str, str] = {}
        faults = Faults(f"model '{reference}': adapter {folder}")
        self._read(config, faults)
        faults.raise_if_any()

    @property
    def changes(self) -> tuple[str, ...]:
        """The canonical names of the tensors that the adapter changes, sorted."""
        return tuple(sorted({*self._updates, *self._replaced}))

    @property
    def tied_changes(self) -> tuple[str, ...]:
        """Those of `changes` that the base shares with a tensor of another name."""
        shared = set(self._architecture.ties.values())
        return tuple(name for name in self.changes if name in shared)

    @torch.no_grad()
    def merged(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Return the base's tensor of a canonical name with the adapter merged into it, in the same dtype."""
        if name in self._replaced:
            tensor = self._file.tensor(self._replaced[name]).to(tensor.dtype)
        update = self._updates.get(name)
        if update is None:
            return tensor
        dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
        # Copies, because the bits of a product may depend on the alignment of its factors in a mapped file.
        down, up = (self._file.tensor(n).to(dtype, copy=True) for n in (update.down, update.up))
        with one_thread():
            product = up @ down
        product = (product.T if update.transposed else product).mul_(update.scale)
        return product.add_(tensor.to(dtype)).to(tensor.dtype).contiguous()

    def _open(self) -> TensorFile:
        for name in WEIGHTS:
            if (self.folder / name).is_file():
                return open_file(self.folder / name, self.reference)
        raise UserError(
            f"model '{self.reference}': no {WEIGHTS[0]} and no {WEIGHTS[1]} in {self.folder}; the folder of an "
            "adapter needs one of them, as PEFT's save_pretrained writes it"
        )

    def _read(self, config: LoraConfig, faults: Faults) -> None:
        factors: dict[str, dict[str, Header]] = {}
        saved: dict[str, Header] = {}
        for header in self._file.headers():
            name = header.name.removeprefix(PREFIX)
            match = FACTOR.fullmatch(name)
            plain = WRAPPED.sub("", name)
            if match:
                side = match["side"] + (match["embedding"] or "")
                factors.setdefault(match["module"], {})[side] = header
            elif "lora_magnitude_vector" in name:
                faults.add(header.name, f"is not supported: {REASONS['use_dora']}; {MERGE_IT}")
            elif "lora_" in name:
                faults.add(header.name, f"is not part of a plain LoRA adapter (lora_A, lora_B); {MERGE_IT}")
            elif not UNTRAINED.search(name) and (plain == name or plain not in saved):
                # PEFT stores some tensors under two names and loads the one without `modules_to_save`.
                saved[plain] = header
        if not factors and not saved:
            faults.add("", "contains no tensors")
        for module, sides in factors.items():
            self._read_update(module, sides, config, faults)
        self._read_saved(saved, config, faults)

    def _read_update(self, module: str, sides: dict[str, Header], config: LoraConfig, faults: Faults) -> None:
        name = self._target(f"{module}.weight")
        if name is None:
            faults.add(module, "is not a module of the base; the adapter belongs to another model")
            return
        kinds = sorted(sides)
        if kinds not in (["A", "B"], ["Aembedding_", "Bembedding_"]):
            faults.add(
                module, f"must have both lora_A and lora_B, but has {first_few([h.name for h in sides.values()])}"
            )
            return
        embedding = len(kinds[0]) > 1
        down, up = sides[kinds[0]], sides[kinds[1]]
        transposed = embedding or name in self._architecture.transposed
        wanted = self._architecture.shapes[name][:: -1 if transposed else 1]
        rank = config.rank_of(module)
        if down.shape != (rank, *wanted[1:]) or up.shape != (*wanted[:1], rank):
            faults.add(
                module,
                f"A must be [r, in] and B [out, r], so {[rank, *wanted[1:]]} and {[*wanted[:1], rank]} by the base "
                f"and adapter_config.json, but they are {list(down.shape)} and {list(up.shape)}",
            )
        elif name in self._updates:
            faults.add(module, f"adapts '{name}', which another module of the adapter adapts too (the base ties them)")
        else:
            self._updates[name] = _Update(down.name, up.name, config.scale(module), transposed)

    def _read_saved(self, saved: dict[str, Header], config: LoraConfig, faults: Faults) -> None:
        """Read the whole tensors in the adapter (modules_to_save), which replace those of the base."""
        groups: dict[str, list[Header]] = {}
        for stored, header in saved.items():
            name = self._target(stored)
            if name is None:
                faults.add(
                    header.name,
                    "is not a tensor of the base; the adapter belongs to another model, or adds a module to it",
                )
            elif header.shape != self._architecture.shapes[name]:
                wanted = list(self._architecture.shapes[name])
                faults.add(
                    header.name,
                    f"has shape {list(header.shape)}, but that of the base has {wanted}: if the vocabulary was "
                    "resized in training, merge the adapter with PEFT into the resized base first",
                )
            else:
                groups.setdefault(name, []).append(header)
        for name, headers in groups.items():
            if not self._one_tensor(name, headers, config):
                faults.add(
                    headers[0].name,
                    "was trained separately from the tensor that the base ties it to; set tie_word_embeddings: false "
                    "in a copy of the base that stores both, and merge the adapter into that",
                )
            self._replaced[name] = headers[0].name

    def _one_tensor(self, name: str, headers: Sequence[Header], config: LoraConfig) -> bool:
        """Whether the tensor and those tied to it stay equal."""
        names = 1 + sum(target == name for target in self._architecture.ties.values())
        if len(headers) < names:
            # PEFT also stores embeddings that were not trained as a whole, if LoRA was applied to them.
            return config.tied or name in self._updates
        tensors = [self._file.tensor(header.name) for header in headers]
        return all(torch.equal(tensors[0], other) for other in tensors[1:])

    def _target(self, name: str) -> str | None:
        canonical = self._architecture.canonical(name)
        canonical = None if canonical is None else self._architecture.ties.get(canonical, canonical)
        return canonical if canonical in self._architecture.shapes else None

"""Resolves model references (local paths or hub ids, with an optional LoRA adapter) to folders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergesmith.errors import UserError, first_line

from ..recipes.references import ModelPath, ModelReference
from .code_files import GENERATION_CODE
from .tokenizer_files import MORE_TEMPLATES

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FILES = (
    *("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "tokenizer*", "LICENSE*", "*.py"),
    *("*.tiktoken", "*.spm", "*.bpe", "*.codes", "*.tokenizer"),
)
PICKLES = ("pytorch_model*.bin", "adapter_model.bin")  # downloaded only if there are no safetensors
ADAPTER_CONFIG = "adapter_config.json"
IN_FOLDERS = (f"{MORE_TEMPLATES}/*.jinja", f"{GENERATION_CODE}/*")
NOT_FILES = ("*/*", "consolidated*")  # the same weights in other formats


@dataclass(frozen=True)
class Folders:
    """The folder of a checkpoint, and that of the LoRA adapter to merge into it, if any."""

    model: Path
    lora: Path | None


def find_folders(reference: str, roots: Sequence[Path] = ()) -> Folders:
    """Return the folders that a reference names.

    A relative path is searched below each of `roots`, in order, then below the working directory. A reference of the
    form `owner/name` or `owner/name@revision` that is not a folder is downloaded from the Hugging Face hub (or taken
    from its local cache). The base of an adapter that is named alone is the one in its adapter_config.json, which is
    searched below the adapter's folder too.

    Raises:
        UserError: there is neither such a folder nor such a model on the hub, or an adapter is applied to an adapter.
    """
    named = locate(reference, roots)
    model = _folder(named.model, reference, roots)
    lora = None if named.lora is None else _folder(named.lora, reference, roots)
    if not is_adapter(model):
        return Folders(model, lora)
    if lora is not None:
        raise UserError(
            f"model '{reference}': {model} is an adapter itself; only one adapter can be merged into a checkpoint"
        )
    base = _base_of(model, reference)
    try:
        folder = _folder(base, str(base), (model, *roots))
    except UserError as error:
        raise UserError(
            f"model '{reference}': it is an adapter, and the base that its {ADAPTER_CONFIG} names cannot be found; "
            f"write BASE+{reference} with another base. {error}"
        ) from None
    if is_adapter(folder):
        raise UserError(f"model '{reference}': its base {folder} is an adapter too; merge and save that one first")
    return Folders(folder, model)


def check_reference(reference: str, roots: Sequence[Path] = ()) -> None:
    """Check that a reference names a folder or could name a model on the hub, without opening or downloading it.

    Raises:
        UserError: it is neither.
    """
    named = locate(reference, roots)
    for part in (named.model, named.lora):
        if part is not None:
            _local(part, reference, roots)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and not a model."""
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()


def read_adapter_config(folder: Path, reference: str) -> dict[str, Any]:
    """Return the content of a folder's adapter_config.json.

    Raises:
        UserError: the file is missing, or is not a JSON mapping.
    """
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"model '{reference}': no {ADAPTER_CONFIG} in {folder}; the folder of an adapter needs one"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"model '{reference}': {folder / ADAPTER_CONFIG} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"model '{reference}': {folder / ADAPTER_CONFIG} cannot be read: it is not a mapping")
    return config


def _base_of(folder: Path, reference: str) -> ModelPath:
    config = read_adapter_config(folder, reference)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not base:
        raise UserError(
            f"model '{reference}': it is an adapter whose {ADAPTER_CONFIG} names no base_model_name_or_path; "
            f"write BASE+{reference}"
        )
    return ModelPath(base, revision if isinstance(revision, str) and HUB_ID.fullmatch(base) else None)


def locate(reference: str, roots: Sequence[Path] = ()) -> ModelReference:
    """Split a reference into its parts. Existing folders take precedence: their names may contain `+` and `@`.

    Raises:
        UserError: the reference does not have mergekit's form.
    """
    if local_folder(reference, roots) is not None:
        return ModelReference(ModelPath(reference))
    for i in (i for i, letter in enumerate(reference) if letter == "+"):
        model, lora = reference[:i], reference[i + 1 :]
        if local_folder(model, roots) is not None and local_folder(lora, roots) is not None:
            return ModelReference(ModelPath(model), ModelPath(lora))
    return ModelReference.parse(reference)


def local_folder(path: str, roots: Sequence[Path] = ()) -> Path | None:
    """Return the folder of a path below one of `roots` or the working directory, or None if there is none."""
    return next((place for place in _places(path, roots) if path and place.is_dir()), None)


def absolute_reference(reference: str, roots: Sequence[Path] = ()) -> str:
    """Return the reference with local folders as absolute paths; hub ids are unchanged.

    Raises:
        UserError: the reference does not have mergekit's form.
    """
    named = locate(reference, roots)
    parts = [part for part in (named.model, named.lora) if part is not None]
    return "+".join(_absolute(part, roots) for part in parts)


def _absolute(part: ModelPath, roots: Sequence[Path]) -> str:
    folder = None if part.revision else local_folder(part.path, roots)
    return str(part) if folder is None else str(folder.resolve())


def _folder(part: ModelPath, reference: str, roots: Sequence[Path]) -> Path:
    return _local(part, reference, roots) or _fetch(reference, part.path, part.revision)


def _local(part: ModelPath, reference: str, roots: Sequence[Path]) -> Path | None:
    """Return the folder that a part of a reference names; None if it has the form of a model on the hub."""
    folder = local_folder(str(part), roots)
    if folder is not None:
        return folder
    for candidate in _places(part.path, roots):
        if candidate.is_file():
            raise UserError(f"model '{reference}': {candidate} is a file; name the folder of the checkpoint")
        if candidate.is_dir() and not (part.revision and HUB_ID.fullmatch(part.path)):
            if part.revision is None:
                return candidate
            raise UserError(
                f"model '{reference}': {candidate} is a folder, and only models on the hub have revisions; "
                f"remove @{part.revision}"
            )
    if not HUB_ID.fullmatch(part.path):
        named = "" if str(part) == reference else f" as '{part}'"
        raise UserError(f"model '{reference}': no such folder{named}{_looked_in(roots)}")
    return None


def _places(path: str, roots: Sequence[Path]) -> Iterator[Path]:
    yield from (root / _home(path) for root in roots)
    yield _home(path)


def _home(reference: str) -> Path:
    try:
        return Path(reference).expanduser()
    except RuntimeError:  # `~name` of an unknown user
        return Path(reference)


def _looked_in(roots: Sequence[Path]) -> str:
    places = ", ".join(str(place) for place in dict.fromkeys((*(root.resolve() for root in roots), Path.cwd())))
    return f" (looked in {places})"


def _fetch(reference: str, name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def fetch(*patterns: str) -> Path:
        ignored: list[str] = [*NOT_FILES]
        return Path(snapshot_download(name, revision=revision, allow_patterns=[*patterns], ignore_patterns=ignored))

    try:
        snapshot_download(name, revision=revision, allow_patterns=[*IN_FOLDERS])
        folder = fetch(*FILES)
        return folder if any(folder.glob("*.safetensors")) else fetch(*FILES, *PICKLES)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise UserError(
            f"model '{reference}': not a folder, and cannot be downloaded from the hub: {first_line(error)}. "
            "Check the spelling, the revision and, for gated models, `hf auth login`."
        ) from None

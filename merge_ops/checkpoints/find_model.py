"""From a model reference to folders: a local path or a hub id, and that of a LoRA adapter on top."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergesmith.errors import UserError, first_line

from ..recipes.references import ModelPath, ModelReference

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "tokenizer*", "LICENSE*")
PICKLES = ("pytorch_model*.bin", "adapter_model.bin")  # fetched only where there are no safetensors
ADAPTER_CONFIG = "adapter_config.json"
NOT_FILES = ("*/*", "consolidated*")  # other formats of the same weights


@dataclass(frozen=True)
class Folders:
    """Where a model lies: its checkpoint, and the LoRA adapter to merge into it, if any."""

    model: Path
    lora: Path | None


def find_folders(reference: str, roots: Sequence[Path] = ()) -> Folders:
    """The folders that a reference names.

    A relative path is looked for below each of `roots`, in order, then below the working directory. What is no folder
    but has the form `owner/name` or `owner/name@revision` is fetched from the Hugging Face hub (or its local cache). An
    adapter alone brings the base that its adapter_config.json names, looked for below the adapter's folder as well.

    Raises:
        UserError: there is no such folder and the hub does not give it, or an adapter lies over another.
    """
    named = locate(reference, roots)
    model = _folder(named.model, reference, roots)
    lora = None if named.lora is None else _folder(named.lora, reference, roots)
    if not is_adapter(model):
        return Folders(model, lora)
    if lora is not None:
        raise UserError(f"model '{reference}': {model} is an adapter itself; one adapter over one checkpoint is merged")
    base = _base_of(model, reference)
    try:
        folder = _folder(base, str(base), (model, *roots))
    except UserError as error:
        raise UserError(
            f"model '{reference}': it is an adapter, and the base that its {ADAPTER_CONFIG} names is not to be had; "
            f"write BASE+{reference} with another. {error}"
        ) from None
    if is_adapter(folder):
        raise UserError(f"model '{reference}': its base {folder} is an adapter too; merge and save that one first")
    return Folders(folder, model)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model of its own."""
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()


def read_adapter_config(folder: Path, reference: str) -> dict[str, Any]:
    """The adapter_config.json of a folder.

    Raises:
        UserError: it is missing or no JSON mapping.
    """
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"model '{reference}': no {ADAPTER_CONFIG} in {folder}; an adapter's folder has one") from None
    except (OSError, ValueError) as error:
        raise UserError(f"model '{reference}': {folder / ADAPTER_CONFIG} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"model '{reference}': {folder / ADAPTER_CONFIG} cannot be read: it is no mapping")
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
    """The parts of a reference. Folders come first: `+` and `@` may be letters of their names.

    Raises:
        UserError: the reference is not of mergekit's form.
    """
    if local_folder(reference, roots) is not None:
        return ModelReference(ModelPath(reference))
    for i in (i for i, letter in enumerate(reference) if letter == "+"):
        model, lora = reference[:i], reference[i + 1 :]
        if local_folder(model, roots) is not None and local_folder(lora, roots) is not None:
            return ModelReference(ModelPath(model), ModelPath(lora))
    return ModelReference.parse(reference)


def local_folder(path: str, roots: Sequence[Path] = ()) -> Path | None:
    """The folder of that path below one of `roots` or the working directory; None where there is none."""
    return next((place for place in _places(path, roots) if path and place.is_dir()), None)


def absolute_reference(reference: str, roots: Sequence[Path] = ()) -> str:
    """The reference with every part that is a local folder spelled as its absolute path; hub ids stay as they are.

    Raises:
        UserError: the reference is not of mergekit's form.
    """
    named = locate(reference, roots)
    parts = [part for part in (named.model, named.lora) if part is not None]
    return "+".join(_absolute(part, roots) for part in parts)


def _absolute(part: ModelPath, roots: Sequence[Path]) -> str:
    folder = None if part.revision else local_folder(part.path, roots)
    return str(part) if folder is None else str(folder.resolve())


def _folder(part: ModelPath, reference: str, roots: Sequence[Path]) -> Path:
    folder = local_folder(str(part), roots)
    if folder is not None:
        return folder
    for candidate in _places(part.path, roots):
        if candidate.is_file():
            raise UserError(f"model '{reference}': {candidate} is a file; name the folder that holds the checkpoint")
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
    return _fetch(reference, part.path, part.revision)


def _places(path: str, roots: Sequence[Path]) -> Iterator[Path]:
    yield from (root / _home(path) for root in roots)
    yield _home(path)


def _home(reference: str) -> Path:
    try:
        return Path(reference).expanduser()
    except RuntimeError:  # `~name` of no user
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
        folder = fetch(*FILES)
        return folder if any(folder.glob("*.safetensors")) else fetch(*FILES, *PICKLES)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise UserError(
            f"model '{reference}': neither a folder nor to be had from the hub: {first_line(error)}. "
            "Check the spelling, the revision and, for gated models, `hf auth login`."
        ) from None

"""From a model reference to a folder: a local path, or a hub id with an optional `@revision`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mergesmith.errors import UserError

from .architecture import first_line

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "tokenizer*", "LICENSE*")
NOT_FILES = ("*/*", "consolidated*")  # other formats of the same weights


def resolve_reference(reference: str, roots: Sequence[Path] = ()) -> Path:
    """The folder that a model reference names.

    A relative path is looked for below each of `roots`, in order, then below the working directory. What is no folder
    but has the form `owner/name` or `owner/name@revision` is fetched from the Hugging Face hub (or its local cache).

    Raises:
        UserError: there is no such folder and the hub does not give it.
    """
    for candidate in (*(root / _home(reference) for root in roots), _home(reference)):
        if candidate.is_dir():
            return candidate
        if candidate.is_file():
            raise UserError(f"model '{reference}': {candidate} is a file; name the folder that holds the checkpoint")
    name, _, revision = reference.partition("@")
    if not HUB_ID.fullmatch(name):
        raise UserError(f"model '{reference}': no such folder{_looked_in(roots)}")
    return _fetch(reference, name, revision or None)


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

    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=list(FILES), ignore_patterns=list(NOT_FILES))
        return Path(folder)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise UserError(
            f"model '{reference}': neither a folder nor to be had from the hub: {first_line(error)}. "
            "Check the spelling, the revision and, for gated models, `hf auth login`."
        ) from None

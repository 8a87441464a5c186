"""A disk cache of architectures.

Deriving an architecture needs transformers' model classes, whose import alone takes longer than most merges of small
models. The result depends only on the text of config.json and the versions of the code, so it is cached as JSON under
their digest in `$MERGESMITH_CACHE` (default: `mergesmith` in the user's cache folder). Entries that cannot be read are
derived again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .architecture import Architecture
from .canonical_names import StoredNames

if TYPE_CHECKING:
    from .transformers_names import LiveNames


def architecture_of(folder: Path, reference: str, *, trust_remote_code: bool = False) -> Architecture:
    """Return the architecture that the config.json of a checkpoint folder describes.

    Raises:
        UserError: there is no config.json, or it describes no causal language model known to transformers.
    """
    file = None if trust_remote_code else _file_of(folder)  # the digest does not cover code in the checkpoint
    if file is not None:
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            return _from_document(json.loads(file.read_text(encoding="utf-8")), lambda: _live_names(folder, reference))
    from .meta_model import derive_architecture  # takes seconds to import

    architecture = derive_architecture(folder, reference, trust_remote_code=trust_remote_code)
    if file is not None:
        with suppress(OSError):  # the cache is only an optimization
            write_cached(file, json.dumps(_document(architecture)).encode())
    return architecture


def _live_names(folder: Path, reference: str) -> LiveNames:
    from .meta_model import load_config, skeleton
    from .transformers_names import LiveNames

    return LiveNames(skeleton(load_config(folder, reference))[0])


def _file_of(folder: Path) -> Path | None:
    """Return the cache file for a folder's config.json, or None if there is no config.json."""
    try:
        config = (folder / "config.json").read_bytes()
        return cache_folder("architectures") / f"{hashlib.sha256(_versions().encode() + config).hexdigest()}.json"
    except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
        return None


def cache_folder(kind: str) -> Path:
    """Return the folder for cached files of one kind; it need not exist.

    Raises:
        RuntimeError: the user has no home folder.
    """
    configured = os.environ.get("MERGESMITH_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(configured) if configured else Path(shared).expanduser() / "mergesmith") / kind


@lru_cache(maxsize=1)
def _versions() -> str:
    """Return the versions of the code that derives an architecture from config.json, this package included."""
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))
    return f"transformers {version('transformers')} torch {version('torch')} {code.hexdigest()}\n"


def write_cached(file: Path, data: bytes) -> None:
    """Write a cached file and the folder that it is in; other processes see it complete or not at all.

    Raises:
        OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as part:
            part.write(data)
        Path(name).replace(file)
    finally:
        Path(name).unlink(missing_ok=True)


def _document(architecture: Architecture) -> dict[str, Any]:
    document = {key: value for key, value in vars(architecture).items() if key in Architecture.__dataclass_fields__}
    names: StoredNames = document.pop("names")
    return {**document, "transposed": sorted(architecture.transposed), "prefix": names.prefix}


def _from_document(document: dict[str, Any], live: Callable[[], LiveNames]) -> Architecture:
    shapes = {name: tuple(shape) for name, shape in document.pop("shapes").items()}
    ties, prefix = document.pop("ties"), document.pop("prefix")
    transposed, vocabulary = frozenset(document.pop("transposed")), tuple(document.pop("vocabulary"))
    names = StoredNames(shapes, ties, prefix, live)
    return Architecture(shapes, ties, names, transposed=transposed, vocabulary=vocabulary, **document)

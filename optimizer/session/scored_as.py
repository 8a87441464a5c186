"""Everything that the item scores of a recipe depend on, as one text that differs if any of it does."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch

from ...evaluators import Part
from ...merge_ops import Recipe, executor_name
from .devices import device_name
from .session import Session
from .versions import package_version, versions

PACKAGE = Path(__file__).parents[2]
CODE = ("mergesmith", "merge_ops", "search_spaces", "evaluators", "optimizer")
SMALL = (".json", ".jinja", ".model", ".txt", ".py")
COMPILERS = ("numba", "triton", "numpy", "tokenizers", "mergesmith")
CPU_INFO = Path("/proc/cpuinfo")


class ScoredAs:
    """What the scores of a session's recipes depend on."""

    def __init__(self, session: Session) -> None:
        """`session` must have its scorers."""
        self.session = session
        self._sources: dict[str, dict[str, Any]] = {}

    def key(self, recipe: Recipe, part: Part) -> str:
        """Return the text for the scores of a recipe on a part."""
        references = recipe.references()
        numbered = recipe.renamed({reference: f"model {i}" for i, reference in enumerate(references)})
        document = {
            "schema_version": 1,
            "recipe": numbered.digest,
            "sources": [self._source(reference) for reference in references],
            "part": part,
            "blocks": [[list(leaf) for leaf in block.items.items()] for block in self.session.suite.blocks(part)],
            **self._common,
        }
        return json.dumps(document, sort_keys=True, default=str)

    def _source(self, reference: str) -> dict[str, Any]:
        if reference not in self._sources:
            source = self.session.bank[reference]
            files = small_files(source.folder)
            self._sources[reference] = {"weights": source.weights_digest, "config": source.config, "files": files}
        return self._sources[reference]

    @cached_property
    def _common(self) -> dict[str, Any]:
        session, config = self.session, self.session.config
        named = config.tokenizer_source in config.models
        tokenizers = [config.base_model, *([config.tokenizer_source] if named and config.tokenizer_source else [])]
        plan = session.suite.plan
        assert plan is not None, "Should not reach."
        return {
            "tasks": session.suite.digests(),
            "task_code": [digest_of((session.root / folder).rglob("*.py")) for folder in config.task_path],
            "tokenizers": [small_files(session.bank[reference].folder) for reference in tokenizers],
            "chat": config.chat.model_dump(mode="json"),
            "scoring": config.scoring.model_dump(mode="json"),
            "plan": plan.to_document(),
            "devices": [device_name(device) for device in session.devices],
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "executor": executor_name(session.device.type),
            "python": platform.python_version(),
            "versions": {**versions(), **{name: package_version(name) for name in COMPILERS}},
            "code": package_code(),
        }


def small_files(folder: Path) -> str:
    """Return the digest of a checkpoint's configuration and tokenizer files."""
    return digest_of(file for file in folder.iterdir() if file.suffix in SMALL and file.is_file())


def digest_of(files: Iterable[Path]) -> str:
    """Return the SHA-256 of the names and contents of files, in the order of their paths."""
    digest = hashlib.sha256()
    for file in sorted(files):
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


@lru_cache(maxsize=1)
def package_code() -> str:
    """Return the SHA-256 of this package's code."""
    return digest_of(file for folder in CODE for file in (PACKAGE / folder).rglob("*.py"))


@lru_cache(maxsize=1)
def processor() -> str:
    """Return the processor's name and the instructions that torch uses on it, on which rounding depends."""
    name = platform.processor()
    if CPU_INFO.is_file():
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{platform.machine()} {name} {torch.backends.cpu.get_cpu_capability()}"

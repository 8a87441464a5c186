"""Creates the demo's folder: trains the models and writes all inputs of a search, or reuses a complete folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from mergesmith.errors import UserError

from .files import data_path, write_checkpoints, write_data, write_search, write_tasks
from .skills import SKILLS, split_words
from .tokenizer import build_tokenizer
from .zoo import DemoSize, train_zoo

MARKER = "demo.json"


def make_demo(
    folder: Path,
    *,
    seed: int = 0,
    threads: int = 1,
    log: Callable[[str], None],
    size: DemoSize | None = None,
) -> Path:
    """Train a tiny base and its specialists, write them, their tasks and search.yaml; return search.yaml's path.

    On one machine, the same seed, thread count and size give the same files. A complete folder is reused; only the
    tasks' YAML is written again, since the folder may have been moved.

    Args:
        folder: the folder to write; created if absent.
        seed: seed of the words, the models and the search.
        threads: CPU threads to train with. Two save a third of the time on two idle cores, and cost a multiple of it on
            busy ones: the models are so small that threads mostly wait for each other.
        log: called with one line per step.
        size: size of the demo.

    Raises:
        UserError: the folder holds a demo made with another seed or size.
        ValueError: `threads` is below 1, or `size` asks for more words than there are.
    """
    if threads < 1:
        raise ValueError(f"make_demo: threads must be at least 1, but is {threads}")
    size = size or DemoSize()
    made_with = json.loads(json.dumps({"version": 1, "seed": seed, "size": asdict(size)}))
    if _complete(folder, made_with):
        log(f"{folder}: the models are there already")
        write_tasks(folder)
        return folder / "search.yaml"
    search = _make(folder, size, seed=seed, threads=threads, log=log)
    (folder / MARKER).write_text(json.dumps(made_with) + "\n", encoding="utf-8")  # last: marks all the rest complete
    return search


def _make(folder: Path, size: DemoSize, *, seed: int, threads: int, log: Callable[[str], None]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    words = split_words(size.train_words, size.items, seed=seed)
    tokenizer = build_tokenizer()
    zoo = train_zoo(words.train, tokenizer, size=size, seed=seed, threads=threads, log=log)
    write_checkpoints(folder, zoo, tokenizer)
    write_data(folder, words, seed=seed)
    write_tasks(folder)
    return write_search(folder, seed=seed)


def _complete(folder: Path, made_with: dict[str, object]) -> bool:
    """Return whether an earlier call finished here and none of its files is missing.

    Raises:
        UserError: the folder holds a demo with another seed or size.
    """
    marker = folder / MARKER
    if not marker.is_file():
        return False
    recorded = json.loads(marker.read_text(encoding="utf-8"))
    if recorded != made_with:
        raise UserError(
            f"{folder}: must be a new folder or one with a demo made with {made_with}, "
            f"but its demo was made with {recorded}. Give another folder, or delete this one."
        )
    models = [folder / name / "model.safetensors" for name in ("base", *(skill.name for skill in SKILLS))]
    data = [data_path(folder, skill) for skill in SKILLS]
    return all(path.is_file() for path in (*models, *data, folder / "search.yaml"))

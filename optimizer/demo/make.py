"""Makes the demo's folder: trains the models, writes everything a search needs, or reuses what lies there complete."""

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

    On one machine, the same seed, thread count and size give the same files. A folder that is complete is used again;
    only the tasks' YAML is written anew, since the folder may have moved.

    Args:
        folder: where to write; made if absent.
        seed: of the words, the models and the search.
        threads: CPU threads to train with. Two save a third of the time where two cores are idle, and cost a multiple
            of it where they are not: the models are so small that threads mostly wait for each other.
        log: told in one line what was done.
        size: how large the demo is; the defaults if not given.

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
    """Whether an earlier call finished here and nothing it wrote is missing."""
    marker = folder / MARKER
    if not marker.is_file():
        return False
    found = json.loads(marker.read_text(encoding="utf-8"))
    if found != made_with:
        raise UserError(
            f"{folder}: must be a new folder or one with a demo made with {made_with}, "
            f"but its demo was made with {found}. Give another folder, or delete this one."
        )
    models = [folder / name / "model.safetensors" for name in ("base", *(skill.name for skill in SKILLS))]
    data = [data_path(folder, skill) for skill in SKILLS]
    return all(path.is_file() for path in (*models, *data, folder / "search.yaml"))

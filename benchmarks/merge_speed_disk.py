"""Whole commands from disk to disk: `mergekit-yaml` and `mergesmith merge`, each in a new process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from merge_speed_cases import CASES
from merge_speed_runs import Figure, Figures, Settings

Rows = dict[str, tuple[Figure | None, Figure]]  # by method: mergekit's, mergesmith's


def disk_rows(figures: Figures, folder: Path, methods: Sequence[str], work: Path) -> Rows:
    """Run both commands for every method over the checkpoints in `folder`, without model cards and tokenizers."""
    settings, recipe, out = figures.settings, work / "recipe.yaml", work / "merged"
    ours = [
        sys.executable,
        "-m",
        "mergesmith",
        "merge",
        str(recipe),
        str(out),
        "--no-copy-tokenizer",
        "--no-model-card",
    ]
    sides = {"mergesmith from disk": ours}
    if settings.python is not None:
        program = str(Path(settings.python).with_name("mergekit-yaml"))
        plain = ["--quiet", "--no-copy-tokenizer", "--no-write-model-card", "--num-threads", str(settings.threads)]
        sides["mergekit from disk"] = [program, str(recipe), str(out), *plain]

    def measure(command: list[str], names: Sequence[str]) -> Iterator[Figure]:
        for name in names:
            recipe.write_text(CASES[name].recipe(folder))
            yield {"name": name, "seconds": _seconds(command, out, settings)}

    found = {
        kind: figures.take(kind, folder, methods, lambda names, command=command: measure(command, names))
        for kind, command in sides.items()
    }
    theirs = found.get("mergekit from disk", {})
    return {name: (theirs.get(name), found["mergesmith from disk"][name]) for name in methods}


def _seconds(command: list[str], out: Path, settings: Settings) -> list[float]:
    seconds: list[float] = []
    while not seconds or (len(seconds) < settings.mergekit_repeats and sum(seconds) < settings.patience):
        shutil.rmtree(out, ignore_errors=True)
        os.sync()  # so that no command waits for the data that another has written
        start = time.perf_counter()
        done = subprocess.run(command, env=settings.environment, capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        if done.returncode or not list(out.glob("*.safetensors")):
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    shutil.rmtree(out)
    return seconds

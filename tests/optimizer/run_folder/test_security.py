"""What a run's folder must not hold, and what reading it must not do."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Command
from tiny_run import write_search

SECRET = "hf_NobodyMayReadThis"


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return open, (str(self.path), "w")  # type: ignore[return-value]


def test_no_credentials_are_written(run_folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    search = write_search(run_folder, tasks=("mc",), search={"sampler": "random", "trials": 2, "seed": 0})
    assert command("search", search).code == 0
    files = [path for path in (run_folder / "run").rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_no_pickle_is_read(run_folder: Path, command: Command) -> None:
    search = write_search(run_folder, tasks=("mc",), search={"sampler": "random", "trials": 1, "seed": 0})
    assert command("search", search).code == 0
    sprung = run_folder / "sprung"
    trap = io.BytesIO()
    np.savez(trap, **{"mc/values": np.array([Trap(sprung)], dtype=object)})  # type: ignore[arg-type]
    for path in (run_folder / "run" / "items").glob("*.npz"):
        path.write_bytes(trap.getvalue())
    for arguments in (("items", run_folder / "run"), ("search", search, "--resume", "--trials", 2)):
        outcome = command(*arguments)
        assert outcome.code == 2
        assert "damaged" in outcome.err
    assert not sprung.exists()


def test_a_models_own_code_is_not_run(run_folder: Path, command: Command) -> None:
    """A configuration that names code of the checkpoint's own is refused, and the code is not imported."""
    sprung = run_folder / "sprung"
    base = run_folder / "base"
    files = {path.name: path.read_bytes() for path in base.iterdir()}
    base.unlink()  # a link to a shared folder
    base.mkdir()
    for name, content in files.items():
        (base / name).write_bytes(content)
    config = json.loads(files["config.json"])
    config |= {
        "model_type": "theirs",
        "auto_map": {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"},
    }
    (base / "config.json").write_text(json.dumps(config))
    (base / "theirs.py").write_text(f"open({str(sprung)!r}, 'w')\n")
    outcome = command("search", write_search(run_folder, tasks=("mc",)))
    assert outcome.code == 2
    assert "config.json" in outcome.err
    assert not sprung.exists()

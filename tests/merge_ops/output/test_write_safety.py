"""A checkpoint appears whole or not at all, and writing it destroys nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT
from tiny_models import write_family

from mergesmith.errors import UserError
from mergesmith.merge_ops import Checkpoint, MergeError, ModelBank, Written, parse_recipe, write_merge

LINEAR = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 0.5}\n"


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models of their own in the working directory, which may be written to."""
    write_family(tmp_path, models=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, out: str | Path = "out", *, max_shard_size: str = "5GB", overwrite: bool = False) -> Written:
    recipe = parse_recipe(text)
    bank = ModelBank(recipe.references())
    return write_merge(recipe, bank, Path(out), max_shard_size=max_shard_size, overwrite=overwrite)


def test_folders_with_content_are_not_overwritten(zoo: Path) -> None:
    Path("out").mkdir()
    write(LINEAR)  # an empty folder is fine
    with pytest.raises(UserError, match="out exists and is not empty"):
        write(LINEAR)
    Path("file").write_text("kept")
    with pytest.raises(UserError, match="file exists and is not empty"):
        write(LINEAR, "file")
    assert Path("file").read_text() == "kept"


def test_overwriting(zoo: Path) -> None:
    first = write(LINEAR, max_shard_size="20KB").digest
    second = write(LINEAR.replace("0.5", "[0.2, 0.4]").replace("{model: b}", "{model: base}"), overwrite=True).digest
    assert first != second == Checkpoint("./out").weights_digest
    assert not list(Path("out").glob("model-*"))
    assert sorted(path.name for path in zoo.iterdir()) == ["a", "b", "base", "out"]


@pytest.mark.parametrize("out", ["a", ".", "file", "full"])
def test_overwriting_never_takes_anything_but_a_checkpoint(zoo: Path, out: str) -> None:
    Path("file").write_text("kept")
    Path("full").mkdir()
    Path("full/thesis.tex").write_text("kept")
    digest = Checkpoint("a").weights_digest
    with pytest.raises(UserError, match="it is not overwritten"):
        write(LINEAR, out, overwrite=True)
    Path("config.json").write_text("{}")
    with pytest.raises(UserError, match="it is not overwritten"):
        write(LINEAR, out, overwrite=True)
    assert Checkpoint("a").weights_digest == digest
    assert Path("full/thesis.tex").read_text() == "kept"


def test_a_linked_folder_is_written_where_it_leads(zoo: Path) -> None:
    Path("disk/models").mkdir(parents=True)
    Path("out").symlink_to("disk/models", target_is_directory=True)
    digest = write(LINEAR).digest
    assert Path("out").is_symlink()
    assert Checkpoint("disk/models").weights_digest == digest
    assert [path.name for path in Path("disk").iterdir()] == ["models"]


def test_parents_are_made(zoo: Path) -> None:
    assert write(LINEAR, "deep/down/out").digest == Checkpoint("deep/down/out").weights_digest


def test_a_failing_merge_leaves_nothing(zoo: Path) -> None:
    with pytest.raises(MergeError, match="must not sum to 0"):
        write(LINEAR.replace("{model: a}", "{model: a, parameters: {weight: [1, 1, -0.5]}}"), max_shard_size="8KB")
    assert sorted(path.name for path in zoo.iterdir()) == ["a", "b", "base"]


def test_a_folder_that_cannot_be_made(zoo: Path) -> None:
    Path("file").write_text("")
    with pytest.raises(UserError, match="could not be written"):
        write(LINEAR, "file/out")


def test_a_full_disk_leaves_nothing(zoo: Path) -> None:
    """A limit on file sizes stands in for the disk: the write fails in the middle of a shard."""
    Path("recipe.yaml").write_text(LINEAR)
    code = (
        "import os, resource\nfrom pathlib import Path\n"
        "from mergesmith.errors import UserError\n"
        "from mergesmith.merge_ops import ModelBank, read_recipe, write_merge\n"
        f"os.chdir({str(zoo)!r})\n"
        "recipe = read_recipe('recipe.yaml')\nbank = ModelBank(recipe.references())\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try:\n    write_merge(recipe, bank, Path('out'))\n"
        "except UserError as error:\n    print('UserError', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("UserError output folder out could not be written"), done.stdout
    assert done.stdout.rstrip().endswith("nothing was left there")
    assert sorted(path.name for path in zoo.iterdir()) == ["a", "b", "base", "recipe.yaml"]

"""The options of `mergesmith merge`, and the two ways to call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkout import ROOT
from command_line import Command
from safetensors.torch import load_file, save_file
from tiny_models import write_family

from mergesmith.merge_ops import Checkpoint, read_recipe

LINEAR = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 0.5}\ndtype: float32\n"


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_family(tmp_path, models=2, layers=2)
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(LINEAR)
    return tmp_path


def files(folder: str = "out") -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def test_what_is_left_out(zoo: Path, command: Command) -> None:
    assert command("merge", "recipe.yaml", "all").code == 0
    assert command("merge", "recipe.yaml", "out", "--no-copy-tokenizer", "--no-model-card").code == 0
    assert files("all") - files() == {"README.md", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert Checkpoint("out").weights_digest == Checkpoint("all").weights_digest
    assert command("merge", "recipe.yaml", "again", "--copy-tokenizer", "--model-card").code == 0
    assert files("again") == files("all")


def test_dtypes(zoo: Path, command: Command) -> None:
    assert command("merge", "recipe.yaml", "out", "--dtype", "float64", "--out-dtype", "bfloat16").code == 0
    assert {entry.dtype for entry in Checkpoint("out").entries.values()} == {torch.bfloat16}
    written = read_recipe("out/mergekit_config.yml")
    assert (written.dtype, written.out_dtype) == ("float64", "bfloat16")
    refused = command("merge", "recipe.yaml", "none", "--out-dtype", "bfloat61")
    assert refused.code == 2
    assert "--out-dtype: unknown dtype 'bfloat61'. Did you mean 'bfloat16'?" in refused.err


def test_an_option_explains_why_the_weights_are_others(zoo: Path, command: Command) -> None:
    Path("recorded.yaml").write_text(f"{LINEAR}mergesmith: {{weights_digest: '{'0' * 64}'}}\n")
    outcome = command("merge", "recorded.yaml", "out", "--out-dtype", "float16")
    assert outcome.code == 1
    assert "NOT the recorded weights" in outcome.out
    assert "out_dtype is float16, was None" in outcome.out


def test_devices(zoo: Path, command: Command) -> None:
    assert command("merge", "recipe.yaml", "out", "--device", "auto").code == 0
    for name in ("cuda:9", "abacus"):
        outcome = command("merge", "recipe.yaml", "none", "--device", name)
        assert outcome.code == 2
        assert f"--device: '{name}' cannot be used" in outcome.err


@pytest.mark.filterwarnings("default:the merged model contains NaN")
def test_values_that_are_not_finite(zoo: Path, command: Command) -> None:
    tensors = load_file("b/model.safetensors")
    tensors["model.norm.weight"][3] = torch.nan
    save_file(tensors, "b/model.safetensors", {"format": "pt"})
    outcome = command("merge", "recipe.yaml", "out")
    assert outcome.code == 2
    assert "model.norm.weight: 1 NaN in 32 values; the source 'b' contains 1 NaN" in outcome.err
    assert not Path("out").exists()
    allowed = command("merge", "recipe.yaml", "out", "--allow-nonfinite")
    assert allowed.code == 0
    assert "warning: the merged model contains NaN" in allowed.err


def test_different_architectures(zoo: Path, command: Command) -> None:
    path = Path("b/config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "mistral"}))
    outcome = command("merge", "recipe.yaml", "out")
    assert outcome.code == 2
    assert "architectures: the models are llama ('a'), mistral ('b')" in outcome.err
    assert command("merge", "recipe.yaml", "out", "--allow-different-architectures").code == 0


CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path("ran").touch()

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.mark.usefixtures("code_cache")
def test_code_in_a_checkpoint_runs_only_when_allowed(zoo: Path, command: Command) -> None:
    path = Path("b/config.json")
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "own", "auto_map": classes}))
    Path("b/own.py").write_text(CODE)
    Path("recipe.yaml").write_text("merge_method: passthrough\nmodels: [{model: b}]\n")
    outcome = command("merge", "recipe.yaml", "out")
    assert outcome.code == 2
    assert "b" in outcome.err
    assert not Path("ran").exists()
    allowed = command("merge", "recipe.yaml", "out", "--trust-remote-code")
    assert allowed.code == 0, allowed.err
    assert Path("ran").exists()
    assert Path("out/own.py").read_text() == CODE


def test_the_module_is_the_script(zoo: Path) -> None:
    script = (
        "import sys; sys.argv[0] = 'mergesmith'; from mergesmith.optimizer.commands.cli import main; sys.exit(main())"
    )
    calls = {"module": ["-m", "mergesmith"], "script": ["-c", script]}
    ended = {}
    for out, call in calls.items():
        for arguments in (["merge", "recipe.yaml", out], ["merge", "none.yaml", out]):
            done = subprocess.run(
                [sys.executable, *call, *arguments],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=240,
            )
            texts = [text.replace("python -m mergesmith", "mergesmith") for text in (done.stdout, done.stderr)]
            ended.setdefault(tuple(arguments[:2]), []).append(
                (done.returncode, *(text.replace(out, "OUT") for text in texts))
            )
    for arguments, (first, second) in ended.items():
        assert first == second, arguments
    assert [first[0] for first, _ in ended.values()] == [0, 2]
    for path in Path("module").iterdir():
        assert path.read_bytes() == (Path("script") / path.name).read_bytes(), path.name

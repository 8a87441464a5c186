"""Checkpoints with code: the output has the files that its configurations name, and loads with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import write_family
from transformers import AutoModelForCausalLM, AutoTokenizer

from mergesmith.errors import UserError
from mergesmith.merge_ops import CheckpointWarning, ModelBank, parse_recipe, write_merge
from mergesmith.merge_ops.checkpoints.code_files import code_files

LINEAR = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 0.5}\n"
CONFIGURATION = "from transformers import LlamaConfig\nclass MyConfig(LlamaConfig):\n    model_type = 'myllama'\n"
MODELING = (
    "from transformers import LlamaForCausalLM\nfrom .configuration_my import MyConfig\n"
    "def build():\n    from .layers_my import LAYERS\n    return LAYERS\n"
    "class MyForCausalLM(LlamaForCausalLM):\n    config_class = MyConfig\n"
)
TOKENIZATION = (
    "from transformers import PreTrainedTokenizerFast\nclass MyTokenizer(PreTrainedTokenizerFast):\n    pass\n"
)
CODE = {
    "configuration_my.py": CONFIGURATION,
    "modeling_my.py": MODELING,
    "layers_my.py": "LAYERS = 2\n",
    "tokenization_my.py": TOKENIZATION,
    "unrelated.py": "raise RuntimeError\n",
}
CLASSES = {"AutoConfig": "configuration_my.MyConfig", "AutoModelForCausalLM": "modeling_my.MyForCausalLM"}
TOKENIZER = {"AutoTokenizer": [None, "tokenization_my.MyTokenizer"]}


def change(path: str, **changes: Any) -> None:
    Path(path).write_text(json.dumps({**json.loads(Path(path).read_text()), **changes}))


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code_cache: None) -> Path:
    write_family(tmp_path, models=2, layers=2)
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        for file, text in CODE.items():
            Path(name, file).write_text(text)
        change(f"{name}/config.json", model_type="myllama", architectures=["MyForCausalLM"], auto_map=CLASSES)
        change(f"{name}/tokenizer_config.json", auto_map=TOKENIZER, tokenizer_class="MyTokenizer")
    return tmp_path


def write(text: str, *, trust: bool = True, copy_tokenizer: bool = True) -> list[str]:
    """Merge a recipe and return the Python files of the output."""
    recipe = parse_recipe(text)
    bank = ModelBank(recipe.references(), trust_remote_code=trust)
    write_merge(recipe, bank, Path("out"), overwrite=True, write_card=False, copy_tokenizer=copy_tokenizer)
    return sorted(str(path.relative_to("out")) for path in Path("out").rglob("*.py"))


@pytest.mark.parametrize("vocabulary", ["", "tokenizer_source: union\n"], ids=["copied", "union"])
def test_the_output_loads_with_its_code(zoo: Path, vocabulary: str) -> None:
    assert write(LINEAR + vocabulary) == sorted(set(CODE) - {"unrelated.py"})
    loaded: Any = AutoModelForCausalLM.from_pretrained("out", trust_remote_code=True)
    assert type(loaded).__name__ == "MyForCausalLM"
    assert torch.isfinite(loaded(torch.tensor([[1, 2]])).logits).all()
    assert type(AutoTokenizer.from_pretrained("out", trust_remote_code=True)).__name__ == "MyTokenizer"
    assert json.loads(Path("out/config.json").read_text())["auto_map"] == CLASSES


def test_code_in_another_repository_stays_there(zoo: Path) -> None:
    change("a/tokenizer_config.json", auto_map={"AutoTokenizer": ["me/my--tokenization_my.MyTokenizer", None]})
    assert "tokenization_my.py" not in write(LINEAR)
    named = json.loads(Path("out/tokenizer_config.json").read_text())["auto_map"]
    assert named == {"AutoTokenizer": ["me/my--tokenization_my.MyTokenizer", None]}


def test_the_code_comes_from_the_models_of_configuration_and_tokenizer(zoo: Path) -> None:
    Path("b/tokenization_my.py").write_text("# of b\n" + TOKENIZATION)
    Path("b/layers_my.py").write_text("LAYERS = 3\n")
    write(LINEAR + "tokenizer_source: b\n")
    assert Path("out/layers_my.py").read_text() == CODE["layers_my.py"]
    assert Path("out/tokenization_my.py").read_text().startswith("# of b")
    Path("b/tokenization_my.py").write_text("from .layers_my import LAYERS\n" + TOKENIZATION)
    with pytest.raises(UserError, match=r"'a' and that of the tokenizer of 'b' have different files layers_my"):
        write(LINEAR + "tokenizer_source: b\n")


def test_files_are_copied_though_transformers_has_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Phi-3, for example: config.json names code that merging does not need, and the output must load with it too."""
    write_family(tmp_path, models=2, layers=2)
    monkeypatch.chdir(tmp_path)
    change("a/config.json", auto_map={"AutoModelForCausalLM": "modeling_my.MyForCausalLM"})
    change("a/tokenizer_config.json", auto_map=TOKENIZER)
    Path("a/modeling_my.py").write_text("import torch\n")
    Path("a/tokenization_my.py").write_text(TOKENIZATION)
    assert write(LINEAR, trust=False, copy_tokenizer=False) == ["modeling_my.py"]
    assert write(LINEAR, trust=False) == ["modeling_my.py", "tokenization_my.py"]
    Path("a/modeling_my.py").unlink()
    with pytest.warns(CheckpointWarning, match=r"a/config.json names modeling_my.py in auto_map, which is not there"):
        write(LINEAR, trust=False)


def test_the_code_of_generate_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_family(tmp_path, models=2, layers=2)
    monkeypatch.chdir(tmp_path)
    Path("a/custom_generate").mkdir()
    Path("a/custom_generate/generate.py").write_text("def generate(model, **kwargs): ...\n")
    Path("a/custom_generate/requirements.txt").write_text("torch\n")
    assert write(LINEAR, trust=False) == ["custom_generate/generate.py"]
    assert Path("out/custom_generate/requirements.txt").is_file()


def test_imports_are_followed_inside_the_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "parts").mkdir(parents=True)
    (tmp_path / "outside.py").touch()
    for name in ("one", "two", "three", "parts/__init__", "parts/four"):
        (folder / f"{name}.py").touch()
    (folder / "main.py").write_text(
        "from . import one\nfrom .parts import x\nfrom .parts.four import y\nfrom ..outside import z\n"
        "import torch\nfrom three import w\ntry:\n    from .two import main\nexcept ImportError:\n    pass\n"
    )
    (folder / "two.py").write_text("from .main import x\n")
    (folder / "config.json").write_text(
        json.dumps({"auto_map": {"AutoConfig": "main.C", "AutoModel": "../outside.M", "Auto": f"{tmp_path}/outside.M"}})
    )
    found = code_files(folder, ("config.json", "none.json"))
    assert sorted(found) == ["main.py", "one.py", "parts/__init__.py", "parts/four.py", "two.py"]
    assert found["two.py"] == folder / "two.py"

"""The manual: links, examples, and generated pages."""

from __future__ import annotations

import importlib
import json
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
import torch
import yaml
from checkout import ROOT
from tiny_models import write_family, write_model

from mergesmith.evaluators import PARTS
from mergesmith.merge_ops import parse_recipe
from mergesmith.optimizer.commands import cli
from mergesmith.optimizer.config import parse_config
from mergesmith.optimizer.start.schema import search_schema
from mergesmith.optimizer.stop_signals import EXIT_CODES

DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
FENCE = re.compile(r"^( *)```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    language: str
    title: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    for indent, language, title, text in FENCE.findall(page.read_text(encoding="utf-8")):
        yield Block(page, language, title, re.sub(f"^{indent}", "", text, flags=re.MULTILINE))


BLOCKS = [block for page in PAGES for block in blocks(page)]


def label(block: Block) -> str:
    return f"{block.page.stem}-{block.title or block.language}"


def slug(heading: str) -> str:
    """The anchor of a heading, as Python-Markdown and GitHub make it."""
    explicit = re.search(r"\{#([\w-]+)\}\s*$", heading)
    if explicit:
        return explicit[1]
    plain = re.sub(r"[^\w\s-]", "", heading).strip().lower()
    return re.sub(r"[\s-]+", "-", plain)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target, anchor in LINK.findall(text):
        if target.startswith(("http:", "https:")):
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{page.name} links to {target}#{anchor}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert named == {str(page.relative_to(DOCS)) for page in PAGES if DOCS in page.parents}


def test_generated_pages_are_up_to_date() -> None:
    from generate import outdated

    # The comparison with mergekit takes longer, and its last digits may depend on the processor.
    assert [page.name for page in outdated(skip=("comparison",))] == [], "run docs/generate.py"


def test_every_key_of_search_yaml_is_described() -> None:
    from generators import search_yaml

    keys = dict(search_yaml.keys())
    assert [key for key, text in keys.items() if not text] == []
    assert set(search_yaml.DESCRIPTIONS) <= set(keys)


def test_every_name_of_the_python_reference_exists() -> None:
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    for module, members in re.findall(r"^::: (\S+)\n.*?members: \[(.*?)\]", page, re.MULTILINE | re.DOTALL):
        found = importlib.import_module(module)
        assert [name for name in members.split(", ") if not hasattr(found, name)] == []


YAML = [block for block in BLOCKS if block.language == "yaml"]


@pytest.mark.parametrize("block", YAML, ids=label)
@pytest.mark.filterwarnings("ignore::mergesmith.merge_ops.recipes.reader.RecipeWarning")
def test_yaml_is_what_it_says(block: Block) -> None:
    if "--8<--" in block.text:
        included = re.findall(r'--8<-- "(.+?)"', block.text)
        assert included and all((ROOT / name).is_file() for name in included)
        return
    documents = list(yaml.safe_load_all(block.text))
    if any("merge_method" in document for document in documents):
        assert parse_recipe(block.text, where=block.title).references()
        return
    (document,) = documents
    if "dataset_path" in document:
        assert f"tasks/{document['task']}.yaml" == block.title
    elif "tokenizer_source" in document or "base_model" in document or not document.keys() <= {"task"}:
        required = {"base_model": "./base", "models": ["./a", "./b"], "tasks": ["gsm8k"]}
        parse_config({**required, **document}, where=f"{block.page.name} {block.title}")
        jsonschema.validate(json.loads(json.dumps({**required, **document}, default=str)), search_schema())


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, with a cache for datasets."""
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path


def write_files(page: Path) -> None:
    """Write the titled blocks of a page into the working directory."""
    for block in blocks(page):
        if block.title:
            path = Path(block.title)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)


def run_python(path: str) -> dict[str, Any]:
    """Run a script as `python path` does."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(Path(path).read_text(), path, "exec"), space)
    return space


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    handlers = {number: signal.getsignal(number) for number in EXIT_CODES}
    monkeypatch.setattr(sys, "argv", line.split())
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 0


def test_the_tutorial_runs(tiny: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    page = DOCS / "tutorial" / "first-merge.md"
    write_family_as({"base": "base", "a": "math", "b": "spell"})
    write_files(page)
    commands = [line for block in blocks(page) if block.language == "bash" for line in block.text.splitlines()]
    assert [line.split()[0:2] for line in commands][1:3] == [["mergesmith", "plan"], ["mergesmith", "search"]]
    for line in commands:
        if line.startswith("python "):
            run_python(line.split()[1])
        else:
            assert run_command(line, monkeypatch) == 0, f"{line}\n{capfd.readouterr().err}"
    printed = capfd.readouterr().out
    for quoted in ("Scores on the report items", "reproduced bit for bit", "verified"):
        assert quoted in printed
    assert Path("merged/model.safetensors").is_file()
    assert Path("trial-4.yaml").is_file()
    run_python_block("analyse.py")


def write_family_as(names: dict[str, str]) -> None:
    write_family(".", "llama", layers=2)
    for old, new in names.items():
        Path(old).rename(new)


def run_python_block(title: str) -> dict[str, Any]:
    (block,) = (block for block in BLOCKS if block.title == title)
    Path(title).write_text(block.text)
    return run_python(title)


def test_the_python_guide_runs(in_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {name: (in_llama / name).resolve() for name in ("base", "a", "b")}
    monkeypatch.chdir(tmp_path)
    for name, folder in names.items():
        Path(name).symlink_to(folder)
    (recipe,) = (block for block in BLOCKS if block.title == "ties.yaml")
    Path("ties.yaml").write_text(recipe.text)
    assert run_python_block("merge.py")["written"].folder == Path("merged")
    assert run_python_block("build.py")["recipe"].merge_method == "task_arithmetic"
    assert run_python_block("configure.py")["config"].space.methods.keys() == {"ties", "slerp"}


def test_the_task_loads(tiny: Path) -> None:
    from tiny_tasks import load

    page = DOCS / "how-to" / "tasks.md"
    write_files(page)
    lines = [json.dumps({"thing": f"thing {i}", "answer": i % 3}) for i in range(60)]
    Path("tasks/colours.jsonl").write_text("\n".join(lines))
    (search,) = (block for block in blocks(page) if block.title == "search.yaml")
    suite = load(tiny, yaml.safe_load(search.text)["tasks"][:1])
    assert sum(suite.counts(part)["colours"] for part in PARTS) == 60


def test_the_objective_runs(tiny: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_files(DOCS / "how-to" / "objectives.md")
    write_model("base", "llama", layers=2)
    model: Any = AutoModelForCausalLM.from_pretrained("base")
    with torch.no_grad():
        values = run_python("objectives.py")["fluency"](model, AutoTokenizer.from_pretrained("base"), "search")
    assert list(values) == ["search-0", "search-1", "search-2"]
    assert all(value < 0 for value in values.values())


def test_the_method_runs() -> None:
    from jobs import models, values_for

    from mergesmith.merge_ops.executors.reference import execute

    (block,) = (block for block in BLOCKS if block.title.endswith("pull.py"))
    space: dict[str, Any] = {
        "__name__": "mergesmith.merge_ops.methods.pull",
        "__package__": "mergesmith.merge_ops.methods",
    }
    exec(compile(block.text, "pull.py", "exec"), space)
    (method,) = space["METHODS"]
    inputs = models((4, 6), 3, dtype=__import__("torch").float32)
    merged = execute(method.plan(values_for(method, 3, {"t": 0.0}), None), inputs, base=0, seed=0, name="x")
    assert merged.equal(inputs[0])


def test_the_docstring_template_is_code() -> None:
    (block,) = (b for b in BLOCKS if b.page.name == "CONTRIBUTING.md" and b.language == "python")
    space: dict[str, Any] = {}
    exec(compile(block.text, "template.py", "exec"), space)
    assert space["keep_count"](10, 0.25) == 2

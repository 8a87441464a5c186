"""No file of the tokenizer is lost on the way to the output, and chat templates in it do not contradict each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import write_family, write_model

from mergesmith.errors import UserError
from mergesmith.merge_ops import CheckpointWarning, ModelBank, load_tokenizer, parse_recipe, write_merge

LINEAR = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 0.5}\n"
WEIGHTS = ("config.json", "generation_config.json", "mergekit_config.yml", "model.safetensors")
OTHERS = (
    *(
        "tokenizer.model",
        "tokenizer.model.v3",
        "spiece.model",
        "sentencepiece.bpe.model",
        "source.spm",
        "qwen.tiktoken",
    ),
    *("tekken.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "vocab.bpe"),
    *("normalizer.json", "chat_template.json", "additional_chat_templates/tool_use.jinja"),
    *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
)
VOCABULARIES = ("tokenizer.model", "tekken", "vocab.json", "merges", "spiece", "sentencepiece", "tiktoken")


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_family(tmp_path, models=2, layers=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, out: str = "out", *, copy_tokenizer: bool = True) -> list[str]:
    """Merge a recipe and return the files of the output except weights and configuration."""
    recipe = parse_recipe(text)
    bank = ModelBank(recipe.references())
    write_merge(recipe, bank, Path(out), write_card=False, copy_tokenizer=copy_tokenizer)
    found = (str(path.relative_to(out)) for path in Path(out).rglob("*") if path.is_file())
    return sorted(name for name in found if name not in WEIGHTS)


def put(folder: str, name: str, text: str) -> None:
    path = Path(folder) / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def test_every_file_of_the_tokenizer_and_the_processor_is_copied(zoo: Path) -> None:
    for name in OTHERS:
        put("a", name, f'{{"file": "{name}"}}')
    for name in ("notes.json", "tokenizer.py", "additional_chat_templates/README.md"):
        put("a", name, "other")
    for name in (name for name in OTHERS if any(kind in name for kind in VOCABULARIES)):  # vocabularies must agree
        put("b", name, f'{{"file": "{name}"}}')
    assert write(LINEAR) == sorted((*OTHERS, "chat_template.jinja", "tokenizer.json", "tokenizer_config.json"))
    for name in OTHERS:
        assert (Path("out") / name).read_bytes() == (Path("a") / name).read_bytes()


def test_additional_chat_templates_load(zoo: Path) -> None:
    put("a", "additional_chat_templates/tool_use.jinja", "{{ 'tools' }}")
    write(LINEAR)
    template = load_tokenizer(Path("out"), "out").chat_template
    assert template == {"default": Path("a/chat_template.jinja").read_text(), "tool_use": "{{ 'tools' }}"}


def test_a_tokenizer_that_is_tekken_json_alone(zoo: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        write_model(name, layers=2, seed=seed, tokenizer=False)
        for path in Path(name).glob("*to*n*.json"):
            path.unlink(missing_ok=path.name == "generation_config.json")
        Path(name, "chat_template.jinja").unlink(missing_ok=True)
        put(name, "tekken.json", '{"config": {}, "vocab": []}')
    assert write(LINEAR) == ["tekken.json"]
    with pytest.raises(UserError, match=r"model 'a': its only tokenizer is tekken.json in a"):
        write(LINEAR + "tokenizer_source: union\n", "again")
    put("b", "tekken.json", '{"config": {}, "vocab": [1]}')
    with pytest.raises(UserError, match="that of 'b' gives other tokens than that of 'a'"):
        write(LINEAR, "again")


def test_a_model_without_tokenizer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("ab"):
        write_model(name, layers=2, seed=seed, tokenizer=False)
    with pytest.warns(CheckpointWarning, match="model 'a' has no tokenizer files in a, so the output has none"):
        assert write(LINEAR) == []


def test_a_template_of_the_recipe_replaces_all_others(zoo: Path) -> None:
    settings = json.loads(Path("a/tokenizer_config.json").read_text())
    put("a", "tokenizer_config.json", json.dumps({**settings, "chat_template": "{{ 'old' }}"}))
    put("a", "chat_template.json", '{"chat_template": "old"}')
    put("a", "additional_chat_templates/tool_use.jinja", "{{ 'old' }}")
    assert write(LINEAR + "chat_template: \"{{ 'new' }}\"\n") == [
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert Path("out/chat_template.jinja").read_text() == "{{ 'new' }}"
    assert json.loads(Path("out/tokenizer_config.json").read_text()) == settings


def test_auto_reads_lists_of_templates(zoo: Path) -> None:
    """tokenizer_config.json may list templates with names; the one called `default` is counted."""
    for name in "ab":
        Path(name, "chat_template.jinja").unlink()
    settings = json.loads(Path("b/tokenizer_config.json").read_text())
    listed = [{"name": "rag", "template": "{{ 'rag' }}"}, {"name": "default", "template": "{{ 'mine' }}"}]
    put("b", "tokenizer_config.json", json.dumps({**settings, "chat_template": listed}))
    write(LINEAR + "chat_template: auto\n")
    assert Path("out/chat_template.jinja").read_text() == "{{ 'mine' }}"


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{% for m in messages %}\n{{ m['content'] }", r"line 2, '{{ m\['content'\] }': unexpected '}'"),
        ("{% if x %}\n{% for m in messages %}{% endif %}", "line 2, .*: Encountered unknown tag 'endif'"),
        ("{{ messages | shout }}", "line 1, .*: No filter named 'shout'"),
    ],
)
def test_a_template_that_is_not_jinja_is_rejected(template: str, fault: str) -> None:
    with pytest.raises(UserError, match=rf"recipe: chat_template: is not a Jinja template: {fault}"):
        parse_recipe(LINEAR + f"chat_template: {json.dumps(template)}\n")


def test_the_tags_of_transformers_are_jinja(zoo: Path) -> None:
    """The tags for the assistant's text, and loops with break."""
    text = (
        "{%- for m in messages %}{% generation %}{{ m['content'] | tojson }}{% endgeneration %}"
        "{% if loop.last %}{% break %}{% endif %}{{ raise_exception('x') }}{{ strftime_now('%d') }}{% endfor %}"
    )
    write(LINEAR + f"chat_template: {json.dumps(text)}\n")
    tokenizer = load_tokenizer(Path("out"), "out")
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == '"hi"'


def test_settings_without_effect_are_named(zoo: Path) -> None:
    with pytest.warns(CheckpointWarning, match="chat_template has no effect, because no tokenizer is written"):
        assert write(LINEAR + "chat_template: chatml\n", copy_tokenizer=False) == []
    for name in "ab":
        Path(name, "chat_template.jinja").unlink()
    with pytest.warns(CheckpointWarning, match="chat_template: auto has no effect, because no model has"):
        write(LINEAR + "chat_template: auto\n", "second")


def test_a_vocabulary_of_the_recipe_is_always_written(zoo: Path) -> None:
    """As in mergekit: the rows of the embeddings belong to it."""
    assert "tokenizer.json" in write(LINEAR + "tokenizer_source: b\n", copy_tokenizer=False)

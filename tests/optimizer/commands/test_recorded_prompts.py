"""Search, resume, eval and verify score with the same day in the prompts and the same generation settings."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from command_line import Command
from tiny_run import MODELS, write_search

from mergesmith.optimizer.commands import search

SHORT: Any = {"sampler": "random", "trials": 1, "seed": 0}
DATED = "{{ strftime_now('%d %m %Y') }}:{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
YESTERDAY = SimpleNamespace(date=SimpleNamespace(today=lambda: datetime.date(2001, 2, 3)))


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """Copies of the models, to change."""
    for name in ("base", *MODELS):
        shutil.copytree(models / name, tmp_path / name)
    return tmp_path


def test_the_day_in_the_chat_template_is_that_on_which_the_run_began(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("base", *MODELS):
        (folder / name / "chat_template.jinja").write_text(DATED)
    config = write_search(folder, tasks=("mc",), search=SHORT, chat={"apply_template": True})
    with monkeypatch.context() as patch:
        patch.setattr(search, "datetime", YESTERDAY)
        assert command("search", config).code == 0
    run = folder / "run"
    assert yaml.safe_load((run / "search.yaml").read_text())["chat"]["date"] in (
        "2001-02-03",
        datetime.date(2001, 2, 3),
    )
    resumed = command("search", config, "--resume", "--trials", 2)
    assert resumed.code == 0, resumed
    verified = command("verify", run / "best.yaml")
    assert verified.code == 0, verified
    assert yaml.safe_load((run / "best.yaml").read_text())["mergesmith"]["chat_date"] == "2001-02-03"
    best = (run / "best.yaml").read_text()
    (folder / "alone.yaml").write_text(best.replace(str(run), str(folder / "gone")))
    verified = command("verify", folder / "alone.yaml", "--config", config)
    assert verified.code == 0, verified
    assert command("eval", folder / "alone.yaml", "--config", config).code == 0


def test_verify_and_search_honour_generation_config(folder: Path, command: Command) -> None:
    for name in ("base", *MODELS):
        path = folder / name / "generation_config.json"
        path.write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2, "repetition_penalty": 1.5}))
    config = write_search(folder, tasks=("gen",), search=SHORT)
    outcome = command("search", config)
    assert outcome.code == 0, outcome
    assert "its generation_config.json sets repetition_penalty: 1.5" in outcome.out
    verified = command("verify", folder / "run" / "best.yaml")
    assert verified.code == 0, verified


def test_the_result_has_the_chat_template_that_it_was_scored_with(folder: Path, command: Command) -> None:
    """A winner whose files come from a fine-tune with another template, here the parent or a slerp."""
    for name in MODELS:
        (folder / name / "chat_template.jinja").write_text("{% for m in messages %}[{{ m['content'] }}]{% endfor %}")
    space = {"methods": ["slerp"]}
    config = write_search(folder, tasks=("mc",), search=SHORT, space=space, chat={"apply_template": True})
    searched = command("search", config)
    assert searched.code == 0, searched
    assert "'./a', './b', './c' has another chat template than the run's tokenizer" in searched.err
    trials = [json.loads(line) for line in (folder / "run" / "trials.jsonl").read_text().splitlines()]
    template = (folder / "base" / "chat_template.jinja").read_text()
    for trial in trials:
        recipe = trial["recipe"]
        taken = recipe.get("base_model", recipe["models"][0]["model"]) != "./base"
        assert recipe.get("chat_template") == (template if taken else None), trial["name"]
    verified = command("verify", folder / "run" / "best.yaml")
    assert verified.code == 0, verified
    other = folder / "other.yaml"
    other.write_text("merge_method: passthrough\nmodels: [{model: ./a}]\nchat_template: chatml\n")
    outcome = command("eval", other, "--config", config)
    assert outcome.code == 2
    assert "other.yaml: its chat_template is not that of the run's tokenizer" in outcome.err

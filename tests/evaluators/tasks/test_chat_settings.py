"""Chat settings act on the prompts, or the user reads that they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_tasks import (
    documents,
    harness_prompts,
    harness_run,
    load,
    make_model,
    make_tokenizer,
    suite_prompts,
    write_task,
)

from mergesmith.errors import UserError

DOCS = documents(60, seed=1)
REFUSING = (  # as in Gemma
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
)
SKIPPING = "{% for m in messages if m['role'] != 'system' %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
CHANGING = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | upper | trim }}{% endfor %}"
SYSTEM = {"apply_template": True, "system": "Be brief."}


def tokenizer(template: str) -> Any:
    made = make_tokenizer()
    made.chat_template = template
    return made


@pytest.fixture
def tasks(root: Path) -> Path:
    write_task(root / "tasks", "choice", "choice", docs=DOCS)
    write_task(root / "tasks", "described", "choice", docs=DOCS, description="pick one.\n")
    write_task(root / "tasks", "rolling", "rolling", docs=DOCS)
    return root


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (REFUSING, "the chat template refuses it (System role not supported)"),
        (SKIPPING, "the chat template leaves it out"),
    ],
)
def test_a_system_prompt_that_the_template_leaves_out_is_rejected(tasks: Path, template: str, reason: str) -> None:
    with pytest.raises(UserError, match=r"choice: chat.system would have no effect") as caught:
        load(tasks, ["choice"], tokenizer=tokenizer(template), chat=SYSTEM)
    assert reason in str(caught.value)
    assert "Remove chat.system, or give the tokenizer a chat template" in str(caught.value)


def test_a_template_may_change_the_system_prompt(tasks: Path) -> None:
    suite = load(tasks, ["choice"], tokenizer=tokenizer(CHANGING), chat=SYSTEM)
    assert suite_prompts(suite, "choice")[0][0][0].startswith("<system>BE BRIEF.<user>")


@pytest.mark.parametrize("template", [REFUSING, SKIPPING])
def test_descriptions_are_left_out_as_by_lm_eval_and_named(
    tasks: Path, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = load(tasks, ["choice", "described"], tokenizer=tokenizer(template), chat={"apply_template": True})
    warned = [warning for warning in suite.warnings if "description" in warning]
    assert len(warned) == 1
    assert warned[0].startswith("described: the task's description is not in its prompts, as in lm-eval: the chat")
    monkeypatch.setattr("tiny_tasks.make_tokenizer", lambda: tokenizer(template))
    results = harness_run(make_model(), ["described"], tasks / "tasks", apply_chat_template=True, log_samples=True)
    ours, theirs = suite_prompts(suite, "described"), harness_prompts(results, "described")
    assert [[list(a) for a in found] for found in ours.values()] == [[list(a) for a in theirs[doc]] for doc in ours]
    assert not any("pick one" in arguments[0] for found in ours.values() for arguments in found)


def test_settings_without_effect_are_named(tasks: Path) -> None:
    (tasks / "objective.py").write_text("def score(model, tokenizer, part):\n    return {'a': 1.0}\n")
    python = {"name": "mine", "python": "./objective.py:score"}

    def warned(tasks_: list[Any], **chat: Any) -> list[str]:
        return [warning for warning in load(tasks, tasks_, chat=chat).warnings if "no effect" in warning]

    assert warned(["rolling", "choice"], **SYSTEM) == [
        (
            "rolling: chat.apply_template and chat.system have no effect: the task scores whole documents, which have "
            "no prompt"
        )
    ]
    assert warned(["choice"], fewshot_as_multiturn=False) == [
        "chat.fewshot_as_multiturn has no effect: chat.apply_template is false"
    ]
    assert warned([python], **SYSTEM) == [
        (
            "chat.apply_template and chat.system have no effect: all tasks are Python objectives, which build their "
            "prompts"
        )
    ]
    assert warned([python, "choice"], **SYSTEM) == []

"""Answers, prompts and expected answers as text."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_tasks import documents, load, make_model, score_part, write_task


@pytest.mark.parametrize("scorer", ["auto", "hf"])
def test_answers_on_report_items_only(scorer: str, tmp_path: Path) -> None:
    write_task(tmp_path / "tasks", "mc", "choice", docs=documents(200, 0))
    write_task(tmp_path / "tasks", "gen", "generation", docs=documents(200, 1))
    suite, model = load(tmp_path, ["mc", "gen"], scorer=scorer), make_model()
    assert not score_part(suite, model, "search").items["mc"].answers
    found, texts = score_part(suite, model, "report").items, suite.item_texts("report")
    for leaf in ("mc", "gen"):
        assert len(found[leaf].answers) == len(found[leaf].ids)
        assert {*texts[leaf]} == {*found[leaf].ids}
        assert all(text.prompt and text.gold for text in texts[leaf].values())
    mc = found["mc"]
    right = [a == texts["mc"][i].gold.strip() for i, a in zip(mc.ids, mc.answers, strict=True)]
    assert right == [value == 1.0 for value in mc.values]


def test_a_rolling_likelihood_has_no_answer(tmp_path: Path) -> None:
    write_task(tmp_path / "tasks", "roll", "rolling", docs=documents(200, 0))
    suite = load(tmp_path, ["roll"])
    assert {*score_part(suite, make_model(), "report").items["roll"].answers} == {""}
    assert {text.gold for text in suite.item_texts("report")["roll"].values()} == {""}

"""The generation loop stops where lm-eval stops, and says what its answers were like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_tasks import documents, graded, harness_run, load, make_model, make_tokenizer, score_part, write_task
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from mergesmith.evaluators import FACTS, Block, ChatConfig, Suite
from mergesmith.evaluators.inference.stop_strings import StopConditions

DOCS = documents(150, seed=1)
UNTIL: dict[str, Any] = {
    "newline": ["\n"],
    "single": "e",
    "several": ["bc", "h", "0", "="],
    "two_tokens": ["ab", "ba", "aa", "dd", "bb", ":", "wp"],
    "nothing": [],
    "empty": [""],
}


def settings(**kwargs: Any) -> dict[str, Any]:
    return {"generation_kwargs": {"do_sample": False, "max_gen_toks": 14, **kwargs}}


def generated(suite: Suite, leaf: str) -> dict[int, str]:
    requests = suite.content.leaves[leaf].requests
    return {doc: found[0].instance.resps[0] for doc, found in requests.items() if found[0].instance.resps}


def test_stop_strings_equal_lm_evals(root: Path) -> None:
    for name, until in UNTIL.items():
        write_task(root / "tasks", name, "generation", docs=DOCS, **graded(**settings(until=until)))
    suite, model = load(root, list(UNTIL)), make_model(3)
    report = suite.check_scorers(lambda: [("it", lambda: model)])
    assert all(scorer.name == "loop" for scorer in report.plan.scorers.values())
    suite.score(model, Block("search", 0, dict.fromkeys(UNTIL, tuple(range(40)))))
    ours = {name: generated(suite, name) for name in UNTIL}
    theirs = harness_run(model, list(UNTIL), root / "tasks", limit=40)["samples"]
    lengths = {}
    for name, texts in ours.items():
        expected = {row["doc_id"]: row["resps"][0][0] for row in theirs[name]}
        assert {doc: text for doc, text in texts.items() if doc < 40} == expected
        lengths[name] = {len(text) for text in texts.values()}
    assert max(lengths["nothing"]) == 14
    assert all(len(lengths[name]) > 3 for name in ("several", "two_tokens"))


def test_a_stop_string_of_a_space_with_a_tokenizer_that_strips_it(root: Path) -> None:
    pieces = ["<pad>", "<s>", "</s>", "<unk>", *(f"\u2581{letter}" for letter in "abc"), *"abc", "\u2581"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    inner = Tokenizer(BPE(vocabulary, [("\u2581", letter) for letter in "abc"], unk_token="<unk>"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()  # type: ignore[assignment]
    special: Any = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **special)
    write_task(root / "tasks", "task", "generation", docs=DOCS)
    lm = load(root, ["task"], tokenizer=tokenizer).content.lm
    stops = StopConditions({"until": [" "], "max_gen_toks": 9}, lm)
    assert tokenizer.decode([vocabulary["\u2581b"]]) == "b"
    assert stops.reached([[vocabulary["a"], vocabulary["b"]], [vocabulary["a"], vocabulary["\u2581b"]]]) == [
        False,
        True,
    ]


def test_chats_with_a_system_prompt_and_a_started_answer(root: Path) -> None:
    shots = {"train": documents(12, seed=9), "num_fewshot": 2, "fewshot_config": {"sampler": "first_n"}}
    task = graded(**settings(until=["q", "\n"]), **shots, gen_prefix="is it")
    write_task(root / "tasks", "task", "generation", docs=DOCS, **task)
    suite, model = load(root, ["task"], chat=ChatConfig(apply_template=True, system="be brief")), make_model(3)
    report = suite.check_scorers(lambda: [("it", lambda: model)])
    assert str(report.plan.scorers["task"]) == "loop+prefix"
    suite.score(model, Block("search", 0, {"task": tuple(range(30))}))
    run = {"apply_chat_template": True, "fewshot_as_multiturn": True, "system_instruction": "be brief", "limit": 30}
    theirs = harness_run(model, ["task"], root / "tasks", **run)["samples"]["task"]
    ours = generated(suite, "task")
    assert "is it" in suite.content.leaves["task"].requests[0][0].arguments[0]
    assert [ours[row["doc_id"]] for row in theirs] == [row["resps"][0][0] for row in theirs]


@pytest.mark.parametrize("scorer", ["auto", "hf"])
def test_special_tokens_that_contain_a_stop_string_end_rows_in_any_batch(root: Path, scorer: Any) -> None:
    # In a batch, lm-eval goes on after such a token while other rows do, and loses it from the text.
    write_task(root / "tasks", "task", "generation", docs=DOCS, **graded(**settings(until=["<s>", "<unk>", "e"])))
    suite, model = load(root, ["task"], scorer=scorer), make_model(3)
    with torch.no_grad():
        model.lm_head.weight[1] *= 2
    suite.score(model, Block("search", 0, {"task": tuple(range(40))}))
    alone, together = (
        {row["doc_id"]: row["resps"][0][0] for row in run["samples"]["task"]}
        for run in (harness_run(model, ["task"], root / "tasks", batch_size=size, limit=40) for size in (1, 16))
    )
    ours = {doc: text for doc, text in generated(suite, "task").items() if doc < 40}
    assert ours == alone
    assert ours != together


def test_a_stop_string_ends_a_text_at_once(root: Path) -> None:
    write_task(root / "tasks", "task", "generation", docs=DOCS, **graded(**settings(until=["ab", "?"])))
    suite, tokenizer = load(root, ["task"]), make_tokenizer()
    stops = StopConditions({"until": ["ab", "?"], "max_gen_toks": 3}, suite.content.lm)
    rows = [tokenizer.encode(text) for text in ("xa", "xab", "xabc", "b", "a?", "ba")]
    assert stops.reached(rows) == [False, True, False, False, True, False]
    assert [stops.text(row) for row in rows] == ["xa", "x", "x", "b", "a", "ba"]
    assert stops.strings == ["ab", "?", "</s>"]
    assert stops.limit == 3


@pytest.mark.parametrize("scorer", ["auto", "hf"])
def test_facts_about_answers(root: Path, scorer: Any) -> None:
    write_task(root / "tasks", "task", "generation", docs=DOCS, **graded(**settings(until=["\n"])))
    suite, model = load(root, [{"name": "task", "filter": "letters"}], scorer=scorer), make_model(3)
    column = {fact: i for i, fact in enumerate(FACTS)}
    items = score_part(suite, model, "select").items["task"]
    facts = items.facts
    texts = [generated(suite, "task")[int(doc)] for doc in items.ids]
    assert facts.shape == (len(texts), len(FACTS))
    assert facts[:, column["empty"]].tolist() == [float(not text.strip()) for text in texts]
    assert facts[:, column["unextracted"]].tolist() == [float(not any(c.islower() for c in text)) for text in texts]
    cut = facts[:, column["truncated"]] == 1
    assert cut.any()
    assert (facts[cut, column["length"]] == 14).all()
    assert (facts[~cut, column["length"]] < 14).any()


def test_facts_of_empty_answers(root: Path) -> None:
    write_task(root / "tasks", "task", "generation", docs=DOCS, **graded(**settings(until=["\n"])))
    write_task(root / "tasks", "choice", "choice", docs=DOCS)
    suite, model = load(root, [{"name": "task", "filter": "letters"}, "choice"]), make_model(3)
    with torch.no_grad():  # whatever it reads, the end token is the likeliest
        model.model.norm.weight.zero_()
        model.lm_head.weight.zero_()
        model.lm_head.bias = torch.nn.Parameter(torch.eye(model.config.vocab_size)[2])
    items = score_part(suite, model, "select").items
    assert items["task"].facts.mean(0).tolist() == [0.0, 1.0, 1.0, 1.0]
    assert items["choice"].facts is None

"""Each of lm-eval's known ways to give silently wrong scores when it is driven repeatedly."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_tasks import (
    all_parts,
    documents,
    graded,
    harness_items,
    harness_prompts,
    harness_run,
    load,
    make_model,
    make_tokenizer,
    score_part,
    suite_prompts,
    write_task,
)

from mergesmith.evaluators import ScoringError
from mergesmith.evaluators.records import Block

TRAIN = documents(12, seed=9)


def write_mix(root: Path) -> list[Any]:
    write_task(root / "tasks", "choice", "choice", docs=documents(120, seed=1), train=TRAIN, num_fewshot=2)
    write_task(root / "tasks", "generation", "generation", docs=documents(120, seed=2), **graded())
    write_task(root / "tasks", "rolling", "rolling", docs=documents(120, seed=3))
    return ["choice", {"name": "generation", "filter": "plain"}, "rolling"]


def values(scores: Any) -> dict[str, list[Any]]:
    return {leaf: items.values.tolist() for leaf, items in scores.items.items()}


def overwrite(model: Any, other: Any) -> None:
    with torch.no_grad():
        for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
            mine.copy_(theirs)


def test_answers_of_an_earlier_candidate_are_removed(root: Path) -> None:
    suite, model, first, second = load(root, write_mix(root)), make_model(7), make_model(1), make_model(2)
    overwrite(model, first)
    before = values(score_part(suite, model, "select"))
    overwrite(model, second)
    between = values(score_part(suite, model, "select"))
    overwrite(model, first)
    assert values(score_part(suite, model, "select")) == before
    assert between == values(score_part(load(root, write_mix(root)), second, "select"))
    assert all(before[leaf] != between[leaf] for leaf in before)


def test_a_block_after_a_failed_candidate_is_clean(root: Path) -> None:
    suite, model = load(root, write_mix(root)), make_model(1)
    before = values(score_part(suite, model, "select"))
    broken = make_model(1)
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ScoringError):
        score_part(suite, broken, "select")
    assert values(score_part(suite, model, "select")) == before


def test_prompts_do_not_drift_between_runs(root: Path) -> None:
    # lm-eval's default sampler goes on drawing from one generator, so a second evaluate() has other prompts.
    tasks = write_mix(root)
    suite, model = load(root, tasks), make_model()
    before = suite_prompts(suite, "choice")
    first = values(score_part(suite, model, "search"))
    assert values(score_part(suite, model, "search")) == first
    assert suite_prompts(suite, "choice") == before == suite_prompts(load(root, tasks), "choice")
    assert suite.digests() == load(root, tasks).digests()


def test_prompts_of_a_subset_are_those_of_the_full_run(root: Path) -> None:
    write_mix(root)
    suite, model = load(root, ["choice"], block_items=16), make_model()
    full = harness_run(model, ["choice"], root / "tasks")
    block = suite.blocks("search")[1]
    scored = suite.score(model, block).items["choice"]
    asked = {doc: suite_prompts(suite, "choice")[doc] for doc in block.items["choice"]}
    assert asked == {doc: harness_prompts(full, "choice")[doc] for doc in block.items["choice"]}
    expected = harness_items(full, "choice", "acc")
    assert dict(zip(scored.ids, scored.values, strict=True)) == {item: expected[item] for item in scored.ids}


def test_ids_belong_to_their_documents_in_any_order(root: Path) -> None:
    # lm-eval given samples=[5, 3, 9] reports document 3 under the id 5.
    write_mix(root)
    suite, model = load(root, ["rolling"]), make_model()
    scored = suite.score(model, Block("search", 0, {"rolling": (5, 3, 9)})).items["rolling"]
    for item, (total, words) in zip(scored.ids, scored.values, strict=True):
        text = suite_prompts(suite, "rolling")[int(item)][0][0]
        assert words == len(text.split())
        tokens = torch.tensor([[1, *make_tokenizer().encode(text)]])
        logits = model(tokens).logits[0, :-1].detach().log_softmax(-1)
        assert total == pytest.approx(float(logits.gather(1, tokens[0, 1:, None]).sum()), rel=1e-5)


def test_logits_are_not_shared_if_context_lengths_differ(root: Path) -> None:
    # HFLM's logits cache would score the second of such a pair at the wrong positions.
    docs = []
    for i in range(60):
        docs += [{"text": f"{i} ab", "target": "cdx"}, {"text": f"{i} a", "target": "bcdx"}]
    template = {"doc_to_text": "{{text}}", "doc_to_target": "{{target}}", "target_delimiter": ""}
    write_task(root / "tasks", "cut", "likelihood", docs=docs, **template)
    suite, model = load(root, [{"name": "cut", "metric": "perplexity"}]), make_model()
    assert not suite.content.share_logits
    tokenizer = make_tokenizer()
    for item, total in all_parts(suite, model)["cut"].items():
        context, answer = tokenizer.encode(docs[int(item)]["text"]), tokenizer.encode(docs[int(item)]["target"])
        tokens = torch.tensor([context + answer])
        logits = model(tokens).logits[0, len(context) - 1 : -1].detach().log_softmax(-1)
        assert total == pytest.approx(float(logits.gather(1, torch.tensor(answer)[:, None]).sum()), rel=1e-5)


def test_logits_are_shared_if_context_lengths_agree(root: Path) -> None:
    docs = [{**doc, "choices": ["a", "b", "c", "d"]} for doc in documents(150, seed=1)]
    write_task(root / "tasks", "letters", "choice", docs=docs)
    suite, model = load(root, ["letters"]), make_model()
    assert suite.content.share_logits
    theirs = harness_items(harness_run(model, ["letters"], root / "tasks"), "letters", "acc")
    assert all_parts(suite, model)["letters"] == theirs


def test_bfloat16_models_get_a_float32_softmax(root: Path) -> None:
    write_task(root / "tasks", "likelihood", "likelihood", docs=documents(150, seed=1))
    suite, model = load(root, [{"name": "likelihood", "metric": "perplexity"}], token_budget=1), make_model()
    model.to(torch.bfloat16)
    tokenizer = make_tokenizer()
    coarse = []
    for item, total in all_parts(suite, model)["likelihood"].items():
        context, answer = suite_prompts(suite, "likelihood")[int(item)][0]
        context_ids, answer_ids = tokenizer.encode(context), tokenizer.encode(" " + answer)[1:]
        tokens = torch.tensor([context_ids + answer_ids])
        logits = model(tokens[:, :-1]).logits[0, len(context_ids) - 1 :].detach()
        picked = torch.tensor(answer_ids)[:, None]
        assert total == pytest.approx(float(logits.float().log_softmax(-1).gather(1, picked).sum()), rel=1e-5)
        coarse.append(abs(total - float(logits.log_softmax(-1).gather(1, picked).sum())))
    assert max(coarse) > 1e-3  # the model's own precision would have been visible


def test_sampling_in_generation_config_does_not_leak(root: Path) -> None:
    write_mix(root)
    suite, model = load(root, [{"name": "generation", "filter": "plain"}]), make_model()
    clean = values(score_part(suite, model, "search"))
    theirs = model.generation_config
    theirs.update(do_sample=True, temperature=2.0, top_k=3)
    assert values(score_part(suite, model, "search")) == clean
    assert model.generation_config is theirs
    assert theirs.temperature == 2.0


def test_chats_are_multiturn_by_default(root: Path) -> None:
    from mergesmith.evaluators import ChatConfig

    write_mix(root)
    suite = load(root, ["choice"], chat=ChatConfig(apply_template=True))
    assert suite_prompts(suite, "choice")[0][0][0].count("<user>") == 3


def test_global_random_generators_are_restored(root: Path) -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    def seed() -> None:
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)

    tasks, model = write_mix(root), make_model()
    seed()
    expected = [draw(), draw(), draw()]
    seed()
    seen = [draw()]
    suite = load(root, tasks)
    seen.append(draw())
    suite.score(model, suite.blocks("select")[0])
    seen.append(draw())
    assert seen == expected


def test_an_untied_model_whose_config_says_tied_stays_untied(root: Path) -> None:
    # HFLM's constructor calls tie_weights(), which copies the input embedding over the output embedding.
    write_mix(root)
    model, reference = make_model(tie_word_embeddings=True), make_model()
    model.lm_head.weight = torch.nn.Parameter(reference.lm_head.weight.detach().clone())
    overwrite(reference, model)
    with torch.no_grad():
        reference.lm_head.weight.copy_(model.lm_head.weight)
    suite = load(root, ["choice"])
    assert values(score_part(suite, model, "search")) == values(score_part(load(root, ["choice"]), reference, "search"))
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
    assert model.config.tie_word_embeddings is True


def test_built_in_tasks_are_indexed_only_if_needed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mergesmith.evaluators.tasks import catalog

    def refuse() -> None:
        raise AssertionError("indexing lm-eval's 14,000 names takes seconds")

    monkeypatch.setattr(catalog, "built_in_tasks", refuse)
    suite = load(root, write_mix(root))
    assert suite.score(make_model(), suite.blocks("select")[0]).seconds > 0


def test_templates_are_compiled_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # lm-eval compiles the target's template for every document of every run.
    from jinja2 import Environment

    suite, model = load(root, write_mix(root)), make_model()

    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(Environment, "compile", refuse)
    assert len(score_part(suite, model, "search").items) == 3


def test_nothing_is_printed(root: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    import logging

    before = logging.getLogger("lm_eval").level
    suite = load(root, write_mix(root))
    score_part(suite, make_model(), "select")
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert logging.getLogger("lm_eval").level == before


def test_quiet_affects_only_libraries_and_changes_no_level(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    from mergesmith.evaluators.lm_eval_bridge.isolation import quiet

    library, child, own = map(logging.getLogger, ("fsspec", "fsspec.some.module", "a_user"))
    with caplog.at_level(logging.INFO, "a_user"), caplog.at_level(logging.DEBUG, "fsspec.some.module"):
        levels = library.level, child.level
        child.warning("remembered as loud")
        with quiet(), quiet():
            for logger in (library, child, logging.getLogger("fsspec.quite.new")):
                logger.warning("not heard")
                logger.error("heard")
            own.info("heard")
            assert (library.level, child.level) == levels
        child.info("loud again")
    assert caplog.messages == ["remembered as loud", *["heard"] * 4, "loud again"]

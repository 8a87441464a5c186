"""Our scorers against lm-eval's own, and the self-check that decides between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from families import family_config
from tiny_tasks import documents, graded, load, make_model, write_task
from transformers import AutoModelForCausalLM

from mergesmith.evaluators import Block, ScoringPlan, Suite
from mergesmith.evaluators.checks.agreement import margin
from mergesmith.evaluators.inference.attention import Attention
from mergesmith.evaluators.inference.generate import generate
from mergesmith.evaluators.scoring import generation_requests
from mergesmith.evaluators.scoring.scorers import Scorer

FAMILIES = ("llama", "qwen3", "gemma3_text", "mixtral", "gpt2")
ITEMS = 12
SHOTS = {"train": documents(12, seed=9), "num_fewshot": 2, "fewshot_config": {"sampler": "first_n"}}
LETTERS = {"doc_to_choice": ["a", "b", "c", "d"]}
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "choice": ("choice", SHOTS),
    "letters": ("choice", {**SHOTS, **LETTERS}),
    "likelihood": ("likelihood", {}),
    "rolling": ("rolling", {}),
    "generation": ("generation", graded(**SHOTS)),
}
FAST = {name: Scorer({"rolling": "rows", "generation": "loop"}.get(name, "packed")) for name in TASKS}  # type: ignore[arg-type]
PLANS = {
    "hf": {name: Scorer("hf") for name in TASKS},
    "rows": {name: Scorer("loop" if name == "generation" else "rows") for name in TASKS},
    "fast": FAST,
    "prefix": {**FAST, **{name: Scorer(FAST[name].name, True) for name in ("choice", "letters", "generation")}},
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    root = tmp_path_factory.mktemp("scorers")
    for i, (name, (kind, overrides)) in enumerate(TASKS.items()):
        write_task(root / "tasks", name, kind, docs=documents(150, seed=i), **overrides)
    return load(root, list(TASKS))


def new_model(family: str, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(1)
    config = family_config(family, vocab_size=64, initializer_range=0.2, tie_word_embeddings=False)
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def scored(suite: Suite, model: Any, scorers: dict[str, Scorer]) -> tuple[dict[str, np.ndarray], dict[str, list[Any]]]:
    """Values per item and answers per request, of the first items of every task."""
    suite.use(ScoringPlan(scorers, token_budget=400))
    found = suite.score(model, Block("search", 0, dict.fromkeys(scorers, tuple(range(ITEMS))))).items
    leaves = suite.content.leaves
    answers = {n: [r.instance.resps[0] for i in range(ITEMS) for r in leaves[n].requests[i]] for n in scorers}
    return {name: items.values for name, items in found.items()}, answers


def totals(answers: list[Any]) -> np.ndarray:
    return np.array([answer[0] if isinstance(answer, tuple) else answer for answer in answers])


@pytest.mark.parametrize("family", FAMILIES)
def test_items_equal_lm_evals_in_float32(suite: Suite, family: str) -> None:
    model = new_model(family)
    expected, theirs = scored(suite, model, PLANS["hf"])
    assert len(set(theirs["generation"])) > 3  # it matters what is generated
    for plan in ("rows", "fast", "prefix"):
        if plan == "prefix" and family == "gemma3_text":  # its layers slide over 8 positions: the self-check refuses
            continue
        values, ours = scored(suite, model, PLANS[plan])
        for name in TASKS:
            if name == "generation":
                assert ours[name] == theirs[name]
            else:
                np.testing.assert_allclose(totals(ours[name]), totals(theirs[name]), rtol=1e-5, atol=1e-4)
            if name not in ("rolling", "likelihood"):
                assert values[name].tolist() == expected[name].tolist()
        greedy = [[answer[1] for answer in answers["likelihood"]] for answers in (ours, theirs)]
        assert greedy[0] == greedy[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_items_in_bfloat16_differ_only_where_rounding_decides(suite: Suite, family: str) -> None:
    model = new_model(family, torch.bfloat16)
    report = suite.check_scorers(lambda: [(family, lambda: model)])
    assert all(check.scorer.name != "hf" for check in report.checks.values())
    expected, theirs = scored(suite, model, PLANS["hf"])
    values, ours = scored(suite, model, dict(report.plan.scorers))
    for name in ("choice", "letters", "likelihood", "rolling"):
        gap = np.abs(totals(ours[name]) - totals(theirs[name]))
        assert (gap <= 0.125 + 0.01 * np.abs(totals(theirs[name]))).all()
    for name in ("choice", "letters"):
        choices = np.sort(totals(theirs[name]).reshape(ITEMS, 4), axis=1)
        close = choices[:, 3] - choices[:, 2] <= 2 * (0.125 + 0.01 * np.abs(choices[:, 3]))
        assert (close | (values[name] == expected[name])).all()
    assert sum(a != b for a, b in zip(ours["generation"], theirs["generation"], strict=True)) <= ITEMS // 4


def only(suite: Suite, name: str, model: Any) -> tuple[str, str]:
    """The scorer that a task gets on a model, and what the report says of it."""
    check = suite.check_scorers(lambda: [("it", lambda: model)]).checks[name]
    return str(check.scorer), check.sentence(name)


def test_the_fastest_scorer_that_agrees_is_chosen(suite: Suite) -> None:
    report = suite.check_scorers(lambda: [("a", lambda: new_model("llama")), ("b", make_model)])
    assert {name: str(scorer) for name, scorer in report.plan.scorers.items()} == {
        "choice": "packed+prefix",
        "letters": "packed+prefix",
        "likelihood": "packed",
        "rolling": "rows",
        "generation": "loop+prefix",
    }
    assert "choice: scored by packed+prefix, equal to lm-eval on 16 sampled items" in next(iter(report.sentences()))


def test_shared_prefixes_are_read_once_per_candidate(suite: Suite) -> None:
    model = make_model()
    suite.check_scorers(lambda: [("it", lambda: model)])
    suite.use(ScoringPlan(PLANS["prefix"], token_budget=400))
    blocks = [Block("search", i, {"choice": tuple(range(10 * i, 10 * i + 10))}) for i in range(2)]
    start = suite.content.leaves["choice"].shared_prefix
    read: list[int] = []
    handle = model.register_forward_pre_hook(lambda _module, inputs: read.append(tuple(inputs[0][0].tolist()) == start))
    values = [[suite.score(model, block, weights=i).items["choice"] for block in blocks] for i in (1, 2)]
    assert sum(read) == 2
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(make_model(5).model.embed_tokens.weight)
    changed = [suite.score(model, block, weights=weights).items["choice"] for weights in (3, None) for block in blocks]
    assert sum(read) == 5
    handle.remove()
    suite.use(suite._plan)  # type: ignore[arg-type]
    fresh = [suite.score(model, block).items["choice"] for block in blocks]
    assert [i.values.tolist() for i in changed] == [i.values.tolist() for i in fresh * 2]
    assert [i.values.tolist() for i in values[0]] == [i.values.tolist() for i in values[1]]


def test_layers_without_attention_masks_use_rows(suite: Suite) -> None:
    scorer, sentence = only(suite, "choice", new_model("lfm2"))
    assert scorer == "rows"
    assert "it has layers of kind 'conv'" in sentence


def test_sliding_layers_use_no_shared_prefix(suite: Suite) -> None:
    scorer, sentence = only(suite, "generation", new_model("gemma3_text"))
    assert scorer == "loop"
    assert "slide over 8" in sentence


def test_a_wrong_mask_is_detected(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if nobody knew that the model's layers slide.
    monkeypatch.setattr(Attention, "of", classmethod(lambda _cls, _model: Attention(None, (), None)))
    scorer, sentence = only(suite, "choice", new_model("gemma3_text"))
    assert scorer == "rows"
    assert "its log-likelihood is" in sentence


def test_the_successor_of_a_rejected_scorer_is_checked_on_all_models(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    models = {"first": new_model("llama"), "second": new_model("lfm2")}

    def candidates() -> Any:
        for name, model in models.items():
            seen.append(name)
            yield name, lambda model=model: model

    report = suite.check_scorers(candidates)
    assert str(report.plan.scorers["choice"]) == "rows"
    assert report.checks["choice"].compared == 16  # 8 items on each of the two
    assert seen == ["first", "second"] * 2


def test_a_forced_scorer_stays_and_the_report_says_what_is_wrong(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_task(root / "tasks", "choice", "choice", docs=documents(150, seed=1), **SHOTS)
    monkeypatch.setattr(Attention, "of", classmethod(lambda _cls, _model: Attention(None, (), None)))
    model = new_model("gemma3_text")
    scorer, sentence = only(load(root, ["choice"], scorer="packed"), "choice", model)
    assert scorer == "packed"
    assert sentence.count("forced, although") == 1
    assert only(load(root, ["choice"], scorer="rows"), "choice", model)[0] == "rows"
    assert only(load(root, ["choice"], scorer="hf"), "choice", model)[0] == "hf"


@pytest.mark.parametrize("models", [1, 2])
def test_wrong_generations_are_counted_over_all_leaves_and_models(
    root: Path, monkeypatch: pytest.MonkeyPatch, models: int
) -> None:
    names = [f"part{i}" for i in range(4)]
    for i, name in enumerate(names):
        write_task(root / "tasks", name, "generation", docs=documents(60, seed=i), **graded())
    group = {"group": "all", "task": names, "aggregate_metric_list": [{"metric": "graded", "aggregation": "mean"}]}
    (root / "tasks" / "all.yaml").write_text(yaml.safe_dump(group))

    def one_wrong(*arguments: Any) -> Any:
        found = generate(*arguments)
        first = min(found)
        return {**found, first: replace(found[first], text=found[first].text + "zz")}

    monkeypatch.setattr(generation_requests, "generate", one_wrong)
    model = make_model().to(torch.bfloat16)
    report = load(root, ["all"]).check_scorers(lambda: [(f"model {i}", lambda: model) for i in range(models)])
    assert {str(scorer) for scorer in report.plan.scorers.values()} == {"hf"}
    assert f"{4 * models} of {8 * models} generated answers of 'all' differ" in report.checks["part0"].sentence("part0")


def test_the_margin_uses_the_truncated_prompt() -> None:
    model = make_model(max_position_embeddings=16)
    pair = (None, [5, *range(4, 40)], [41, 42, 43])
    cut = (None, pair[1][-14:], pair[2])
    assert margin(model, pair, 16) == pytest.approx(margin(model, cut, 64), rel=1e-5)
    assert margin(model, pair, 16) != pytest.approx(margin(model, pair, 64), rel=1e-5)


def test_a_forced_scorer_stays_if_lm_eval_runs_out_of_memory(root: Path) -> None:
    write_task(root / "tasks", "choice", "choice", docs=documents(150, seed=1))
    model = make_model()

    def check(_module: Any, _inputs: Any, named: dict[str, Any]) -> None:
        if named.get("attention_mask") is None:
            raise torch.OutOfMemoryError("no room for a batch without a mask")

    handle = model.register_forward_pre_hook(check, with_kwargs=True)
    try:
        report = load(root, ["choice"], scorer="packed").check_scorers(lambda: [(name, lambda: model) for name in "ab"])
    finally:
        handle.remove()
    told = report.checks["choice"].sentence("choice")
    assert told.startswith("choice: scored by packed; forced, and not checked on a: out of memory in lm-eval's scorer")
    assert told.count("forced") == 1


def test_sampled_answers_are_scored_by_lm_eval(root: Path) -> None:
    settings = {"generation_kwargs": {"until": ["\n"], "do_sample": True, "temperature": 0.7, "max_gen_toks": 4}}
    write_task(root / "tasks", "sampled", "generation", docs=documents(150, seed=1), **graded(**settings))
    scorer, sentence = only(load(root, ["sampled"]), "sampled", make_model())
    assert scorer == "hf"
    assert "not decoded greedily" in sentence


def test_a_model_that_cannot_be_scored_is_left_out_of_the_check(suite: Suite) -> None:
    broken = make_model()
    with torch.no_grad():
        broken.lm_head.weight[7].fill_(float("nan"))
    report = suite.check_scorers(lambda: [("broken", lambda: broken), ("sound", make_model)])
    assert next(iter(report.sentences())).startswith("broken takes no part in the check of the scorers: task 'choice'")
    assert report.checks["choice"].compared == 8


def test_contexts_that_are_too_long_are_cut_on_the_left(root: Path) -> None:
    write_task(root / "tasks", "choice", "choice", docs=documents(150, seed=1), **SHOTS)
    write_task(root / "tasks", "rolling", "rolling", docs=documents(150, seed=2))
    suite, model = load(root, ["choice", "rolling"], max_length=12), make_model()
    names = ("choice", "rolling")
    expected, theirs = scored(suite, model, {name: PLANS["hf"][name] for name in names})
    for plan in ("rows", "fast", "prefix"):
        values, ours = scored(suite, model, {name: PLANS[plan][name] for name in names})
        assert values["choice"].tolist() == expected["choice"].tolist()
        for name in names:
            np.testing.assert_allclose(totals(ours[name]), totals(theirs[name]), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_both_kinds_of_masks(suite: Suite, attention: str) -> None:
    model = new_model("qwen3")
    model.set_attn_implementation(attention)
    assert only(suite, "choice", model)[0] == "packed+prefix"

"""Generation by steps over tensors that stay where they are, as CUDA graphs need it; here run one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from families import family_config
from tiny_tasks import documents, graded, load, write_task
from transformers import AutoModelForCausalLM

from mergesmith.evaluators import Block, ScoringError, ScoringPlan, Suite
from mergesmith.evaluators.checks import candidate_check, task_ladder
from mergesmith.evaluators.inference import cuda_graphs as graphs
from mergesmith.evaluators.inference.decode_step import DecodeStep, check_steps
from mergesmith.evaluators.records import UnsupportedError
from mergesmith.evaluators.scoring.scorers import Scorer

SHOTS = {"train": documents(12, seed=9), "num_fewshot": 2, "fewshot_config": {"sampler": "first_n"}}
TASKS = {
    "short": graded(**SHOTS, generation_kwargs={"until": ["a", "\n"], "do_sample": False, "max_gen_toks": 20}),
    "long": graded(generation_kwargs={"until": ["ab", "\n"], "do_sample": False, "max_gen_toks": 40}),
}
ITEMS = 24


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    root: Path = tmp_path_factory.mktemp("graphs")
    for i, (name, overrides) in enumerate(TASKS.items()):
        write_task(root / "tasks", name, "generation", docs=documents(150, seed=i), **overrides)
    return load(root, list(TASKS))


def new_model(family: str = "llama", seed: int = 1) -> Any:
    torch.manual_seed(seed)
    config = family_config(family, vocab_size=64, initializer_range=0.2, tie_word_embeddings=False)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def answers(suite: Suite, model: Any) -> dict[str, list[str]]:
    suite.score(model, Block("search", 0, dict.fromkeys(TASKS, tuple(range(ITEMS)))))
    leaves = suite.content.leaves
    return {name: [leaves[name].requests[i][0].instance.resps[0] for i in range(ITEMS)] for name in TASKS}


def plan(name: Any, prefix: bool = False) -> ScoringPlan:
    return ScoringPlan({"short": Scorer(name, prefix), "long": Scorer(name)}, token_budget=700)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[DecodeStep]:
    """Every step that is made."""
    made: list[DecodeStep] = []
    before = DecodeStep.__init__

    def noted(self: DecodeStep, *arguments: Any) -> None:
        before(self, *arguments)
        made.append(self)

    monkeypatch.setattr(DecodeStep, "__init__", noted)
    return made


@pytest.mark.parametrize("family", ["llama", "qwen3", "mixtral", "gpt2"])
def test_answers_equal_lm_evals(suite: Suite, family: str, steps: list[DecodeStep]) -> None:
    model = new_model(family)
    suite.use(plan("hf"))
    theirs = answers(suite, model)
    assert len(set(map(len, theirs["long"]))) > 4  # rows leave their batch one after another
    for prefix in (False, True):
        suite.use(plan("graphs", prefix))
        assert answers(suite, model) == theirs
    assert len({step.rows for step in steps}) > 2


def test_steps_serve_one_candidate_after_another(suite: Suite, steps: list[DecodeStep]) -> None:
    model, others, found = new_model(), [new_model(seed=seed) for seed in (2, 3)], []
    for name in ("graphs", "loop"):
        suite.use(plan(name, prefix=True))
        for other in others:
            model.load_state_dict(other.state_dict())
            found.append(answers(suite, model))
    assert found[:2] == found[2:]
    assert found[0] != found[1]
    assert steps
    assert len(steps) == len({(step.rows, step.length) for step in steps})  # no shape is made twice


def test_another_model_gets_other_steps(suite: Suite) -> None:
    suite.use(plan("graphs"))
    found = [answers(suite, new_model(seed=seed)) for seed in (2, 3)]
    suite.use(plan("loop"))
    assert found == [answers(suite, new_model(seed=seed)) for seed in (2, 3)]


def test_steps_are_not_cached_beyond_the_memory_share(
    suite: Suite, steps: list[DecodeStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model()
    suite.use(plan("graphs"))
    expected = answers(suite, model)
    made = len(steps)
    monkeypatch.setattr(graphs, "MEMORY_SHARE", 0.0)
    suite.use(plan("graphs"))
    assert answers(suite, model) == expected
    assert len(steps) > 2 * made  # made again for every batch


def test_nan_of_one_candidate_does_not_reach_the_next(suite: Suite, steps: list[DecodeStep]) -> None:
    model = new_model("gpt2")  # whose learned positions end somewhere
    suite.use(plan("graphs"))
    expected = answers(suite, model)
    for _ in range(12):
        with torch.inference_mode():
            for x in (x for step in steps for layer in step.layers for x in layer):
                x.fill_(float("nan"))  # as an overflow leaves it behind
        assert answers(suite, model) == expected
        assert all(int(step.positions.max()) < step.length for step in steps)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "mixtral"])
def test_a_step_does_not_synchronize_with_the_device(suite: Suite, steps: list[DecodeStep], family: str) -> None:
    # Tensors of the device "meta" have no numbers: whatever asks for one, or makes a shape of it, fails there.
    model = new_model(family).to(torch.bfloat16)
    suite.use(plan("graphs"))
    answers(suite, model)
    like = [(keys.to("meta"), values.to("meta")) for keys, values in steps[0].layers]
    step = DecodeStep(model.to("meta"), 3, 64, like)
    step.run()
    assert step.tokens.is_meta
    with pytest.raises(RuntimeError, match="meta"):
        int(step.slot)


def test_logits_that_are_not_finite_name_their_item(suite: Suite) -> None:
    model = new_model()
    suite.use(plan("graphs"))
    answers(suite, model)
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ScoringError, match="logits are not finite"):
        answers(suite, model)


def test_models_with_a_short_sliding_window_are_rejected() -> None:
    with pytest.raises(UnsupportedError, match="slide over"):
        check_steps(new_model("gemma3_text"), 64)


@pytest.fixture
def graphs_suite(tmp_path: Path) -> Suite:
    write_task(tmp_path / "tasks", "short", "generation", docs=documents(150, seed=0), **TASKS["short"])
    return load(tmp_path, ["short"], scorer="graphs")


@pytest.mark.parametrize("faster", [True, False])
def test_graphs_are_used_only_if_they_are_faster(
    graphs_suite: Suite, faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_ladder, "check_recordable", check_steps)
    clock, model = iter(range(1000)), new_model()  # runs take ever longer, or ever shorter
    monkeypatch.setattr(
        candidate_check, "perf_counter", lambda: next(clock) ** (2 if faster else 0.5)
    )  # slows or gains
    check = graphs_suite.check_scorers(lambda: [("it", lambda: model)]).checks["short"]
    assert str(check.scorer) == ("graphs+prefix" if faster else "loop+prefix")
    assert ("the loop only" in check.sentence("short")) is not faster


def test_models_on_other_devices_use_the_loop(graphs_suite: Suite) -> None:
    model = new_model()
    check = graphs_suite.check_scorers(lambda: [("it", lambda: model)]).checks["short"]
    assert str(check.scorer) == "loop+prefix"
    assert "not by graphs+prefix: on it it is not on a CUDA device" in check.sentence("short")

"""Scores a written checkpoint with lm-eval's `simple_evaluate`, independently of the scorers in this package."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import Part, TaskConfig
from .records import BlockScores, ItemScores, Scores, TaskEntry
from .scoring.aggregate import join
from .suite import Suite

if TYPE_CHECKING:
    from .lm_eval_bridge.live_hflm import LiveLM
    from .tasks.suite_content import LeafTask, SuiteContent


def score_checkpoint(
    suite: Suite,
    checkpoint_folder: Path,
    part: Part,
    *,
    device: str = "cpu",
    dtype: Any = None,
    trust_remote_code: bool = False,
) -> Scores:
    """Score a written checkpoint with lm-eval's evaluation loop, on freshly loaded tasks.

    Only the tasks' names, the split and the few-shot pools are those of `Suite.score`; task objects, prompts, tokens,
    batches and the loop are lm-eval's. The prompts of all documents are built, since few-shot examples are drawn in
    their order, and those of the part are scored.

    Args:
        suite: the suite that defines tasks and split.
        checkpoint_folder: a folder that `from_pretrained` reads. Its tokenizer is used, or the suite's if it has none.
        part: the part to return.
        device: the device of the model; "balanced" spreads it over all GPUs (accelerate's device map).
        dtype: torch dtype of the weights, or its name; None keeps the checkpoint's.
        trust_remote_code: run code that the checkpoint contains.

    Raises:
        ScoringError: see `Suite.score`.
        RuntimeError: lm-eval's prompts or documents differ from those that the suite scores.
    """
    from .lm_eval_bridge.isolation import inside_lm_eval, quiet, silent_children, without_package_list
    from .lm_eval_bridge.live_hflm import LiveLM

    started, content = time.perf_counter(), suite.content
    with quiet():
        model, tokenizer = _loaded(checkpoint_folder, content.lm.tokenizer, device, dtype, trust_remote_code)
        lm = LiveLM(
            tokenizer,
            batch_size=content.lm.batch_size,
            max_length=content.lm.given_max_length,
            date=content.config.chat.date,
        )
        lm.attach(model)
    items: dict[str, ItemScores] = {}
    with inside_lm_eval(), silent_children(), without_package_list():
        for config, entry in zip(content.config.tasks, content.entries, strict=True):
            if entry.python:
                items[entry.name] = content.objectives[entry.name].score(model, lm.tokenizer, part)
            else:
                items |= _entry_items(content, config, entry, lm, part)
    return join([BlockScores(part=part, index=0, items=items, seconds=time.perf_counter() - started)])


def _loaded(folder: Path, tokenizer: Any, device: str, dtype: Any, trust: bool) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spread = {"device_map": device} if device == "balanced" else {}
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype or "auto", trust_remote_code=trust, **spread)
    if not spread:
        model.to(device)
    has_tokenizer = (Path(folder) / "tokenizer_config.json").is_file()
    if not has_tokenizer:
        return model, tokenizer
    return model, AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)


def _entry_items(
    content: SuiteContent, config: TaskConfig, entry: TaskEntry, lm: LiveLM, part: Part
) -> dict[str, ItemScores]:
    from lm_eval import evaluator

    simple_evaluate: Any = evaluator.simple_evaluate  # the decorator hides the signature from type checkers
    assert content.catalog is not None  # entries that are not Python objectives come from the catalog
    fresh = content.catalog.load(entry.name).tasks
    for name, task in fresh.items():
        if (pool := content.leaves[name].pool) is not None:
            pool.apply(task)
        _restrict(task, frozenset(content.document_ids(name, part)))
    fresh = {name: task for name, task in fresh.items() if content.document_ids(name, part)}
    if not fresh:
        return {}
    results = simple_evaluate(
        model=lm,
        tasks=list(fresh.values()),
        num_fewshot=config.num_fewshot,
        limit=config.limit,
        bootstrap_iters=0,
        log_samples=True,
        system_instruction=content.config.chat.system,
        apply_chat_template=content.config.chat.apply_template,
        fewshot_as_multiturn=content.config.chat.fewshot_as_multiturn,
        task_manager=content.catalog.manager,  # otherwise lm-eval would index its 14,000 names again
        confirm_run_unsafe_code=True,  # Suite.load has checked the permission
    )
    samples = results["samples"]
    return {
        name: _picked_items(name, content.leaves[name], samples[name], content.document_ids(name, part))
        for name in fresh
    }


def _restrict(task: Any, ids: frozenset[int]) -> None:
    """Let lm-eval run only the requests of the documents `ids`, after it has built those of all documents."""
    build, iterate = task.build_all_requests, task.doc_iterator

    def build_part(**arguments: Any) -> None:
        build(**arguments)
        task._instances = [instance for instance in task._instances if instance.doc_id in ids]
        task.doc_iterator = lambda **places: ((i, doc) for i, doc in iterate(**places) if i in ids)

    task.build_all_requests = build_part


def _picked_items(name: str, leaf: LeafTask, samples: list[Mapping[str, Any]], ids: tuple[int, ...]) -> ItemScores:
    from .scoring.item_values import item_scores, value_of
    from .tasks.documents import canonical

    wanted = set(ids)
    rows = {}
    for sample in samples:
        doc = sample["doc_id"]
        if sample["filter"] != leaf.metric.filter or doc not in wanted:
            continue
        ours = [request.arguments for request in leaf.requests[doc]]
        if canonical([sample["doc"], sample["arguments"]]) != canonical([leaf.items.docs[doc], ours]):
            raise RuntimeError(
                f"task '{name}', item {doc}: lm-eval's document or prompt differs from the one that was scored"
            )
        values = {metric: sample[metric] for metric in sample["metrics"]}
        rows[doc] = value_of(values, leaf, f"task '{name}', item {doc}")
    return item_scores(ids, [rows[doc] for doc in ids], name)

"""The scoring loop: a block's requests through the live model, then filters and metrics, to per-item values."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.models.utils import normalize_gen_kwargs

from mergesmith.errors import Faults

from .content import Content, LeafTask
from .live_lm import LiveLM, NonFiniteLogitsError
from .measures import Measure, as_numbers, filtered, picked
from .records import Block, BlockScores, ItemScores, ScoringError
from .surroundings import inside_lm_eval, pinned_generation
from .task_items import Request


def score_block(content: Content, model: Any, block: Block) -> BlockScores:
    """Score one block on the model's present weights.

    Raises:
        ScoringError: non-finite outputs, a metric that fails on an answer, or a failing Python objective.
    """
    started = time.perf_counter()
    lm = content.lm
    lm.attach(model)
    leaves = {name: ids for name, ids in block.items.items() if name in content.leaves}
    requests = [
        request for name, ids in leaves.items() for doc in ids for request in content.leaves[name].requests[doc]
    ]
    with inside_lm_eval(), pinned_generation(model, lm.tokenizer):
        answer(lm, requests, share_logits=content.share_logits)
        items = {name: _leaf_scores(content.leaves[name], ids) for name, ids in leaves.items()}
        for name in block.items:
            if name in content.objectives:
                items[name] = content.objectives[name].score(model, lm.tokenizer, block.part)
    return BlockScores(block.part, block.index, items, time.perf_counter() - started)


def answer(lm: LiveLM, requests: Sequence[Request], *, share_logits: bool) -> None:
    """Run requests and put each one's answers into its instance's `resps`, in place of a former candidate's.

    Raises:
        ScoringError: NaN or infinite log-likelihoods or logits.
    """
    for request in requests:
        request.instance.resps, request.instance.filtered_resps = [], {}
    repeated = [request for request in requests for _ in range(request.instance.repeats or 1)]
    pairs = [(request, request.pair) for request in repeated if request.pair is not None]
    rolling = [(request, request.tokens) for request in repeated if request.tokens is not None]
    texts = [request for request in repeated if request.is_generation]
    if pairs:
        for (request, _), scored in zip(
            pairs, lm.score_pairs([pair for _, pair in pairs], share_logits=share_logits), strict=True
        ):
            _check_finite(scored[0], request.instance)
            request.instance.resps.append(scored)
    if rolling:
        for (request, _), total in zip(rolling, _rolling(lm, [tokens for _, tokens in rolling]), strict=True):
            _check_finite(total, request.instance)
            request.instance.resps.append(total)
    if texts:
        for request, text in zip(texts, _generated(lm, [request.instance for request in texts]), strict=True):
            request.instance.resps.append(text)


def check_fits(content: Content) -> tuple[str, ...]:
    """Warnings for prompts that the attached model's length cuts off on the left, as lm-eval does in silence.

    Raises:
        UserError: a task asks for more new tokens, or scores a longer answer, than the model has positions.
    """
    length, faults, warnings = content.lm.max_length, Faults("tasks"), []
    for name, leaf in content.leaves.items():
        requests = leaf.all_requests()
        pairs = [request.pair for request in requests if request.pair is not None]
        if any(len(pair[2]) > length for pair in pairs):
            faults.add(name, f"an answer is longer than the model's {length} positions")
        kinds = {str(r.arguments[1]): r.arguments[1] for r in requests if r.is_generation}
        new = max((_new_tokens(kwargs, content.lm) for kwargs in kinds.values()), default=0)
        if new >= length:
            faults.add(name, f"asks for {new} new tokens (max_gen_toks), but the model has only {length} positions")
        cut = sum(len(pair[1]) + len(pair[2]) > length + 1 for pair in pairs)
        cut += sum(len(content.lm.tok_encode(r.arguments[0])) > length - new for r in requests if r.is_generation)
        if cut:
            warnings.append(
                f"{name}: {cut} of {len(requests)} prompts are longer than the model takes and lose their start"
            )
    faults.raise_if_any()
    return tuple(warnings)


def _new_tokens(kwargs: dict[str, Any], lm: LiveLM) -> int:
    return normalize_gen_kwargs(kwargs, lm.max_gen_toks).get("max_gen_toks", lm.max_gen_toks)


def _rolling(lm: LiveLM, documents: Sequence[list[int]]) -> list[float]:
    """Log-likelihood of each document in nat, over windows of the model's length."""
    windows = [lm.windows(tokens) for tokens in documents]
    scored = iter(lm.score_pairs([window for found in windows for window in found], share_logits=False))
    return [sum(next(scored)[0] for _ in found) for found in windows]


def _generated(lm: LiveLM, instances: Sequence[Instance]) -> list[str]:
    try:
        return lm.generate(instances)
    except NonFiniteLogitsError:
        for instance in instances:  # one by one, to name the item; most often the first already fails
            try:
                lm.generate([instance])
            except NonFiniteLogitsError:
                raise ScoringError(f"{_item(instance)}: the model's logits are not finite") from None
        raise ScoringError(f"{_item(instances[0])} or a later one: the model's logits are not finite") from None


def _check_finite(value: float, instance: Instance) -> None:
    if not math.isfinite(value):
        raise ScoringError(f"{_item(instance)}: log-likelihood is {value}")


def _leaf_scores(leaf: LeafTask, ids: Sequence[int]) -> ItemScores:
    filtered(leaf.task, leaf.measure.filter, [r.instance for doc in ids for r in leaf.requests[doc]])
    rows = []
    for doc in ids:
        instances = [request.instance for request in leaf.requests[doc]]
        answers = [instance.filtered_resps[leaf.measure.filter] for instance in instances]
        try:
            value = picked(leaf.task.process_results(instances[0].doc, answers), leaf.measure.metric)
        except Exception as error:  # the task's own code, on whatever the model answered
            raise ScoringError(f"{_item(instances[0])}: the metric failed: {type(error).__name__}: {error}") from error
        rows.append(checked_value(value, leaf.measure, _item(instances[0])))
    return item_scores(ids, rows, leaf.task.task_name)


def checked_value(value: Any, measure: Measure, place: str) -> float | tuple[float, ...]:
    """A per-item value as numbers.

    Raises:
        ScoringError: not numeric, not finite (NaN passes where the aggregation skips it), or outside [0, 1] for a
            metric that is known to lie there.
    """
    found = as_numbers(value)
    if found is None:
        raise ScoringError(f"{place}: metric '{measure.metric}' gave {value!r}, which is no number")
    row = found if isinstance(found, tuple) else (found,)
    if measure.aggregation != "nanmean" and not all(math.isfinite(number) for number in row):
        raise ScoringError(f"{place}: metric '{measure.metric}' is {value}")
    if measure.bounded and not 0.0 <= row[0] <= 1.0:
        raise ScoringError(f"{place}: metric '{measure.metric}' must lie in [0, 1], but is {value}")
    return found


def item_scores(ids: Sequence[int], rows: Sequence[float | tuple[float, ...]], leaf: str) -> ItemScores:
    """Values of a leaf's items as one array, (n,) or (n, k).

    Raises:
        ScoringError: items with different numbers of values.
    """
    widths = {len(row) if isinstance(row, tuple) else 0 for row in rows}
    if len(widths) > 1:
        raise ScoringError(f"{leaf}: its items have different numbers of values: {sorted(widths)}")
    return ItemScores(ids=tuple(str(doc) for doc in ids), values=np.array(rows, dtype=np.float64))


def _item(instance: Instance) -> str:
    return f"task '{instance.task_name}', item {instance.doc_id}"

"""Warnings about the scores of the base and the models, before candidates are scored.

They detect mistakes that make a search worthless: tasks on which no model scores above chance, a wrong filter, answers
that are cut off, a tokenizer that does not belong to the models, models that are not better than their base.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...evaluators import LeafFacts, Score, Scores, SuiteFacts, TaskEntry
from ...search_spaces import BASE
from ..run_folder.file_names import SANITY
from .answer_audit import FILTER_FACT, rates_document
from .leaderboard import Leaderboard
from .objective import paired_difference, scored_leaves, scores_of

STDERRS = 2.0  # standard errors by which a score must be above chance, or a model above the base
FILTER_DIFFERENCE = 0.10  # difference between two filters' scores of the same answers that is reported
TRUNCATED_SHARE = 0.05  # share of a model's answers above which truncation is reported
MANY_EMPTY, MANY_UNEXTRACTED = 0.2, 0.5  # shares of answers that explain a score of zero


@dataclass(frozen=True)
class ScoredModel:
    """The base or a model with its scores on search items.

    `answers` is as in `Trial`; `items` is None if the per-item scores are not on disk.
    """

    name: str
    scores: Mapping[str, Score]
    answers: Mapping[str, Mapping[str, float]]
    items: Scores | None

    @classmethod
    def of(cls, name: str, entries: Sequence[TaskEntry], items: Scores) -> ScoredModel:
        """Return the model with these per-item scores."""
        return cls(name, scores_of(entries, items), rates_document(items), items)


def report_sanity(leaderboard: Leaderboard, *, facts: SuiteFacts, warn: Callable[[list[str]], None]) -> None:
    """Print the warnings about a run's base and models, and record them in the run's folder.

    Raises:
        UserError: the file cannot be written.
    """
    run_folder = leaderboard.run_folder
    trials = [trial for trial in (leaderboard.baseline(BASE), *leaderboard.parents()) if trial is not None]
    models = [ScoredModel(t.name, t.scores, t.answers, run_folder.items(t.number, "search")) for t in trials]
    warnings = sanity_warnings(models, leaderboard.plan.entries, facts)
    run_folder.files.write_json(SANITY, {"schema_version": 1, "warnings": warnings})
    warn(warnings)


def sanity_warnings(models: Sequence[ScoredModel], entries: Sequence[TaskEntry], facts: SuiteFacts) -> list[str]:
    """Return a sentence for everything suspicious about the base and the models, with its likely fix."""
    if not models:
        return []
    found = list(_tokenizer(facts))
    for entry in entries:
        if entry.weight > 0:
            found += _no_signal(models, entry, facts)
        for leaf in entry.leaves:
            if leaf.name in facts.leaves:
                found += _filters(models, leaf.name, facts.leaves[leaf.name])
                found += _truncated(models, leaf.name, facts.leaves[leaf.name])
    return [*found, *_no_gain(models, [entry for entry in entries if entry.weight > 0])]


def _tokenizer(facts: SuiteFacts) -> Iterator[str]:
    d = facts.difference
    if d is not None:
        yield (
            f"transformers loads a tokenizer that encodes {d.differing} of {d.texts} of the tasks' texts differently "
            f"from the model's tokenizer.json; the first: {d.example!r} is {list(d.by_file)} by the file and "
            f"{list(d.by_transformers)} as loaded. Scores here and in lm-eval use the loaded one. If the models were "
            f"trained with the file, set tokenizer_class to TokenizersBackend in tokenizer_config.json; transformers "
            f"ignores that for some model types, such as qwen2, which then need a version that reads the file"
        )


def _no_signal(models: Sequence[ScoredModel], entry: TaskEntry, facts: SuiteFacts) -> Iterator[str]:
    """Yield a warning if the base and all models score 0 on a task, or not above chance."""
    scores = [model.scores[entry.name] for model in models]
    chance = _chance(entry, facts)
    best = max(scores, key=lambda score: score.value)
    if entry.sign > 0 and all(score.value == 0 for score in scores):
        finding = f"the base and all models score 0 on {best.n} items"
    elif chance is not None and all(score.value <= chance + STDERRS * score.stderr for score in scores):
        finding = (
            f"neither the base nor a model is above chance by more than {STDERRS:g} standard errors: the best scores "
            f"{best.value:.3f} ± {best.stderr:.3f} on {best.n} items, random answers {chance:.3f}"
        )
    else:
        return
    causes = list(_causes(models, entry, facts))
    likely = "; ".join(causes) or "none found: read some answers with lm-eval's --log_samples, or drop the task"
    yield f"{entry.name}: {finding}, so the task cannot guide the search. Likely causes: {likely}"


def _chance(entry: TaskEntry, facts: SuiteFacts) -> float | None:
    known = [(leaf.share, facts.leaves[leaf.name].chance) for leaf in entry.leaves if leaf.name in facts.leaves]
    total = sum(share * chance for share, chance in known if chance is not None)
    complete = len(known) == len(entry.leaves) and all(chance is not None for _, chance in known)
    return total if complete and entry.sign > 0 else None


def _causes(models: Sequence[ScoredModel], entry: TaskEntry, facts: SuiteFacts) -> Iterator[str]:
    leaves = [facts.leaves[leaf.name] for leaf in entry.leaves if leaf.name in facts.leaves]
    if not leaves:
        return
    first = leaves[0]
    empty, unextracted, truncated = (_rate(models, entry, name) for name in ("empty", "unextracted", "truncated"))
    if empty >= MANY_EMPTY:
        stops = ", ".join(map(repr, first.stops))
        yield f"{empty:.0%} of the answers are empty, so a stop string (until: {stops}) may end them at once"
    if unextracted >= MANY_UNEXTRACTED:
        yield (
            f"filter '{first.filter}' extracts nothing from {unextracted:.0%} of the answers: choose another filter, "
            f"or prompts that show the expected form"
        )
    if truncated > TRUNCATED_SHARE:
        yield f"{truncated:.0%} of the answers are cut off at the limit of {first.limit} tokens"
    if first.missing_bos:
        yield (
            f"prompts lack the BOS token {first.missing_bos}, without which Llama and Gemma models score badly: set "
            f"add_bos_token to true in the base's tokenizer_config.json, or add a post-processor to its tokenizer.json"
        )
    if facts.applies_template:
        yield "prompts use the chat template; if the models were not trained on it, set chat.apply_template to false"
    elif facts.has_template:
        yield (
            "the tokenizer has a chat template and prompts do not use it; for chat models, set chat.apply_template "
            "to true"
        )


def _rate(models: Sequence[ScoredModel], entry: TaskEntry, fact: str) -> float:
    """Return the mean of a fact over the models and the task's leaves; 0 if nothing is generated."""
    found = [model.answers[leaf.name][fact] for model in models for leaf in entry.leaves if leaf.name in model.answers]
    return sum(found) / len(found) if found else 0.0


def _filters(models: Sequence[ScoredModel], leaf: str, facts: LeafFacts) -> Iterator[str]:
    """Yield a warning for each other filter by which a model's answers score very differently."""
    differences: dict[str, tuple[float, float, str]] = {}  # filter -> the model with the largest difference
    for model in models:
        if model.items is None or leaf not in model.items.items:
            continue
        items = model.items.items[leaf]
        if not items.known.any():
            continue
        used = float(items.values[items.known].mean())
        for fact, other in model.answers.get(leaf, {}).items():
            name = fact.removeprefix(FILTER_FACT)
            before = differences.get(name, (0.0, 0.0, ""))
            if name != fact and abs(other - used) > max(FILTER_DIFFERENCE, abs(before[1] - before[0])):
                differences[name] = used, other, model.name
    for name, (used, other, model) in differences.items():
        yield (
            f"{leaf}: the same answers of {model} score {used:.3f} by filter '{facts.filter}', which is used, and "
            f"{other:.3f} by filter '{name}'. If that one reads the answers as you mean, set filter: {name} for the "
            f"task; otherwise prompt for the form that '{facts.filter}' expects"
        )


def _truncated(models: Sequence[ScoredModel], leaf: str, facts: LeafFacts) -> Iterator[str]:
    shares = {model.name: model.answers.get(leaf, {}).get("truncated", 0.0) for model in models}
    many = {name: share for name, share in shares.items() if share > TRUNCATED_SHARE}
    if many:
        named = ", ".join(f"{share:.0%} of {name}" for name, share in many.items())
        yield (
            f"{leaf}: answers are cut off at the limit of {facts.limit} tokens: {named}. Raise max_gen_toks in the "
            f"task's generation_kwargs, or add a stop string (until) with which complete answers end"
        )


def _no_gain(models: Sequence[ScoredModel], entries: Sequence[TaskEntry]) -> Iterator[str]:
    """Yield a warning if no model beats the base on any task."""
    base = next((model.items for model in models if model.name == BASE), None)
    others = [model for model in models if model.name != BASE and model.items is not None]
    if base is None or not others:
        return
    found = []
    for model in others:
        assert model.items is not None, "Should not reach."
        for entry in entries:
            if any(
                model.items.items[leaf.name].ids != base.items[leaf.name].ids for leaf in scored_leaves(entry, base)
            ):
                continue  # a Python objective may choose different items for each model
            difference = paired_difference(entry, model.items, base)
            stderr = 0.0 if math.isnan(difference.stderr) else difference.stderr
            if difference.value > STDERRS * stderr:
                return
            found.append((difference, model.name, entry.name))
    if not found:
        return
    d, model, task = max(found, key=lambda one: one[0].value)
    error = "" if math.isnan(d.stderr) else f" ± {d.stderr:.3f}"
    yield (
        f"no model is better than the base on any task by more than {STDERRS:g} standard errors (the largest "
        f"difference: {model} on {task}, {d.value:+.3f}{error}, {d.n} items), so there is nothing to combine. Add the "
        f"tasks that the models were trained for, or raise limit for more items, or check that base_model is their base"
    )

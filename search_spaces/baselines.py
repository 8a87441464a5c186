"""The candidates that every search scores first: what a careful person would try by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

from ..merge_ops import Recipe, Setting, Source
from .space import MergeIngredients

BASE, UNIFORM = "base", "uniform"
MOST_PAIRS = 6  # slerp of every pair, unless there are more pairs than this


def baselines(subject: MergeIngredients) -> Iterator[tuple[str, Recipe]]:
    """(name, recipe): base, each fine-tune, their uniform average, task arithmetic of total weight 1 and 2, slerps.

    Total weight 2, not only 1: evolved weights of good merges sum to about 2 (Akiba et al. 2024, arXiv:2403.13187).
    """
    yield BASE, single(subject.base, subject)
    for model in subject.models:
        yield parent_name(model), single(model, subject)
    if len(subject.models) < 2:
        return
    yield UNIFORM, _uniform(subject)
    for total in (1, 2):
        yield f"task arithmetic, total weight {total}", _arithmetic(subject, total / len(subject.models))
    if subject.tokenizer_source == "union":
        return  # the union of two vocabularies is not that of all
    pairs = list(combinations(subject.models, 2))
    for first, second in pairs if len(pairs) <= MOST_PAIRS else ():
        yield f"slerp 0.5 of {first} and {second}", _slerp(subject, first, second)


def parent_name(model: str) -> str:
    """The name of the baseline that is a fine-tune itself."""
    return f"parent {model}"


def single(model: str, subject: MergeIngredients) -> Recipe:
    """One source as it is, in the search's output dtype and vocabulary."""
    if subject.tokenizer_source is not None:
        # All others at weight 0: tokens that the model lacks take part as they do in every candidate.
        return _average({m: float(m == model) for m in (subject.base, *subject.models)}, subject)
    return Recipe("passthrough", models=(Source(model),), dtype="float32", out_dtype=subject.out_dtype)


def _uniform(subject: MergeIngredients) -> Recipe:
    # The base at weight 0: the output takes its configuration and tokenizer from there, as all candidates do.
    return _average({subject.base: 0.0, **dict.fromkeys(subject.models, 1.0)}, subject)


def _average(weights: Mapping[str, float], subject: MergeIngredients) -> Recipe:
    return Recipe(
        "linear",
        models=tuple(Source(m, None, {"weight": Setting.constant(w)}) for m, w in weights.items()),
        base_model=subject.base,
        parameters={"normalize": Setting.constant(True)},
        dtype="float32",
        out_dtype=subject.out_dtype,
        seed=subject.seed,
        tokenizer_source=subject.tokenizer_source,
    )


def _arithmetic(subject: MergeIngredients, weight: float) -> Recipe:
    return Recipe(
        "task_arithmetic",
        models=tuple(Source(m, None, {"weight": Setting.constant(weight)}) for m in subject.models),
        base_model=subject.base,
        parameters={"normalize": Setting.constant(False), "lambda": Setting.constant(1.0)},
        dtype="float32",
        out_dtype=subject.out_dtype,
        seed=subject.seed,
        tokenizer_source=subject.tokenizer_source,
    )


def _slerp(subject: MergeIngredients, first: str, second: str) -> Recipe:
    return Recipe(
        "slerp",
        models=(Source(first), Source(second)),
        base_model=first,
        parameters={"t": Setting.constant(0.5)},
        dtype="float32",
        out_dtype=subject.out_dtype,
        seed=subject.seed,
        tokenizer_source=subject.tokenizer_source,
    )

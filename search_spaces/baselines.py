"""The candidates that every search scores first: the merges that one would try by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from mergesmith.errors import UserError, unknown

from ..merge_ops import Recipe, Setting, Source
from .ingredients import MergeIngredients

BASE, UNIFORM = "base", "uniform"
TASK_ARITHMETIC, SLERP = "task_arithmetic", "slerp"
KINDS = (UNIFORM, TASK_ARITHMETIC, SLERP)
ALL, NONE = "all", "none"
MOST_PAIRS = 6  # with more pairs than this, slerps are left out


def baselines(ingredients: MergeIngredients, chosen: str | Sequence[str] = ALL) -> Iterator[tuple[str, Recipe]]:
    """Yield (name, recipe): base, fine-tunes, their uniform average, task arithmetic of total weight 1 and 2, slerps.

    Total weight 2, not only 1: evolved weights of good merges sum to about 2 (Akiba et al. 2024, arXiv:2403.13187).

    Args:
        ingredients: the inputs of the search space.
        chosen: the merges beside base and fine-tunes: "all", "none", or kinds (KINDS) and names. "all" leaves slerps
            out if there are many pairs.

    Raises:
        UserError: `chosen` lists an unknown name.
    """
    yield BASE, _single(ingredients, ingredients.base)
    for model in ingredients.models:
        yield parent_name(model), _single(ingredients, model)
    usual = [] if chosen == NONE else list(_usual(ingredients))
    known = [*KINDS, *(name for _, name, _ in usual)]
    wanted: Sequence[str] = (UNIFORM, TASK_ARITHMETIC) if left_out(ingredients) else KINDS
    if not isinstance(chosen, str):
        wanted = chosen
    for name in wanted:
        if name not in known and usual:
            raise UserError(unknown("search.baselines", name, known))
    yield from ((name, recipe) for kind, name, recipe in usual if kind in wanted or name in wanted)


def _usual(ingredients: MergeIngredients) -> Iterator[tuple[str, str, Recipe]]:
    """Yield (kind, name, recipe) of the merges that one would try by hand."""
    models = ingredients.models
    if len(models) < 2:
        return
    # The base has weight 0: the output takes its configuration and tokenizer from there, as all candidates do.
    yield UNIFORM, UNIFORM, _average(ingredients, {ingredients.base: 0.0, **dict.fromkeys(models, 1.0)})
    for total in (1, 2):
        name = f"task arithmetic, total weight {total}"
        yield TASK_ARITHMETIC, name, _task_arithmetic(ingredients, total / len(models))
    if ingredients.tokenizer_source == "union":
        return  # a slerp has two models, and the union of their vocabularies is not that of all models
    for first, second in combinations(models, 2):
        yield SLERP, f"slerp 0.5 of {first} and {second}", _slerp(ingredients, first, second)


def left_out(ingredients: MergeIngredients, chosen: str | Sequence[str] = ALL) -> list[str]:
    """Return sentences on usual baselines that this search does not score although nothing in search.yaml says so."""
    if chosen != ALL:
        return []
    pairs = len(ingredients.models) * (len(ingredients.models) - 1) // 2
    if pairs <= MOST_PAIRS or ingredients.tokenizer_source == "union":
        return []
    return [
        (
            f"slerp 0.5 is not among the baselines: {len(ingredients.models)} models have {pairs} pairs, more than "
            f"{MOST_PAIRS}; list recipes of the pairs that interest you under baselines, or all pairs by "
            "search.baselines: [uniform, task_arithmetic, slerp]"
        )
    ]


def parent_name(model: str) -> str:
    """Return the name of the baseline that is an unchanged fine-tune."""
    return f"parent {model}"


def _single(ingredients: MergeIngredients, model: str) -> Recipe:
    if ingredients.tokenizer_source is not None:
        # All others have weight 0: tokens that the model lacks are filled in as in every candidate.
        return _average(ingredients, {m: float(m == model) for m in (ingredients.base, *ingredients.models)})
    template = ingredients.chat_templates.get(model)
    return Recipe(
        "passthrough",
        models=(Source(model),),
        dtype="float32",
        out_dtype=ingredients.out_dtype,
        chat_template=template,
    )


def _average(ingredients: MergeIngredients, weights: Mapping[str, float]) -> Recipe:
    return ingredients.recipe(
        "linear",
        tuple(_weighted(model, weight) for model, weight in weights.items()),
        base_model=ingredients.base,
        parameters={"normalize": Setting.constant(True)},
    )


def _task_arithmetic(ingredients: MergeIngredients, weight: float) -> Recipe:
    return ingredients.recipe(
        "task_arithmetic",
        tuple(_weighted(model, weight) for model in ingredients.models),
        base_model=ingredients.base,
        parameters={"normalize": Setting.constant(False), "lambda": Setting.constant(1.0)},
    )


def _slerp(ingredients: MergeIngredients, first: str, second: str) -> Recipe:
    parameters = {"t": Setting.constant(0.5)}
    return ingredients.recipe("slerp", (Source(first), Source(second)), base_model=first, parameters=parameters)


def _weighted(model: str, weight: float) -> Source:
    return Source(model, None, {"weight": Setting.constant(weight)})

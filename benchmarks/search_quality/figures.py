"""What is known of a problem without any search: base, parents, lines of total weight, recipes known to be good."""

from __future__ import annotations

from collections.abc import Iterator

from mergesmith.merge_ops import Recipe, Setting, Source, read_recipe

from .truth import Truth

TOTALS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5)


def total_weight(truth: Truth, total: float) -> Recipe:
    """Task arithmetic with equal weights that sum to `total`."""
    subject = truth.session.merge_ingredients
    weight = Setting.constant(total / len(subject.models))
    return Recipe(
        "task_arithmetic",
        models=tuple(Source(model, None, {"weight": weight}) for model in subject.models),
        base_model=subject.base,
        parameters={"normalize": Setting.constant(False), "lambda": Setting.constant(1.0)},
        dtype="float32",
        out_dtype=subject.out_dtype,
    )


def named_recipes(truth: Truth) -> Iterator[tuple[str, Recipe]]:
    """(name, recipe) of base, parents and uniform average, the line of total weights, and the known recipes."""
    for name, recipe in truth.session.baselines:
        if not name.startswith(("task arithmetic", "slerp")):
            yield name, recipe
    for total in TOTALS:
        yield f"total {total:g}", total_weight(truth, total)
    for path in sorted((truth.folder / "known").glob("*.yaml")):
        yield f"known: {path.stem}", read_recipe(path)


def figures(truth: Truth) -> dict[str, float]:
    """Name -> true score of each of them."""
    return {name: truth.value(recipe) for name, recipe in named_recipes(truth)}

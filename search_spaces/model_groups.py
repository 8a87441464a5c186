"""Which models a method merges: all, those that the user names, or every pair of them."""

from __future__ import annotations

from itertools import combinations

from mergesmith.errors import Faults, unknown

from ..merge_ops import Base, MergeMethod, Scope
from .config import MethodConfig
from .ingredients import MergeIngredients, ModelGroup


def models_of(
    method: MergeMethod, config: MethodConfig, ingredients: MergeIngredients, faults: Faults
) -> tuple[str, ...]:
    """Return the models that a method is to merge; if it cannot merge them in a search, add why not to `faults`.

    Returns:
        The models, or an empty tuple after a fault.
    """
    name, place = method.name, f"methods.{method.name}"
    pairs_with_base = method.max_inputs == 2 and method.base is Base.REQUIRED
    models = ingredients.models if config.models is None else config.models
    known = (*ingredients.models, *((ingredients.base,) if pairs_with_base else ()))
    strange = [model for model in models if model not in known]
    fine_tunes = len(models)
    least = 2 if config.models and pairs_with_base else method.min_inputs - (method.base is Base.REQUIRED)
    weighted = method.parameter("weight") is not None
    if method.max_inputs == 1:
        faults.add("methods", f"{name} takes one model and has nothing to search; leave it out")
    elif strange:
        faults.add(f"{place}.models", unknown("model", strange[0], known))
    elif len(set(models)) < len(models):
        faults.add(f"{place}.models", f"names a model twice: {', '.join(models)}")
    elif fine_tunes < least:
        faults.add("methods", f"{name} needs at least {least} fine-tunes, but here are {fine_tunes}")
    elif fine_tunes == 1 and method.base is Base.IGNORED and not weighted:
        faults.add("methods", f"{name} averages the fine-tunes, and here is only one; leave it out")
    elif ingredients.tokenizer_source != "union":
        return models
    elif method.max_inputs == 2 and fine_tunes > 1:
        faults.add(
            place,
            "merges two models at a time, and the union of two vocabularies is not that of all; leave it out, "
            "or give tokenizer_source: base",
        )
    elif len(models) < len(ingredients.models) and not weighted:
        faults.add(f"{place}.models", "with tokenizer_source: union, a method without weights must merge all models")
    else:
        return models
    return ()


def groups_of(method: MergeMethod, config: MethodConfig, ingredients: MergeIngredients) -> tuple[ModelGroup, ...]:
    """Return the groups of models that a method can merge: all its models, or every pair for a method of two inputs."""
    models, base = config.models or ingredients.models, ingredients.base
    # In a union of vocabularies, models that are not searched are listed too, at weight 0.
    listed = ingredients.models if ingredients.tokenizer_source == "union" else models
    if method.base is Base.OPTIONAL:
        # Given the base, the method works on task vectors, and the output takes the base's configuration.
        if method.max_inputs is None:
            return (ModelGroup("all", base, listed, models),)
        pairs = combinations(models, method.max_inputs)
        return tuple(ModelGroup(" + ".join(pair), base, pair, pair) for pair in pairs)
    if method.max_inputs == 2:
        pairs = list(combinations(models, 2)) or [(base, models[0])]
        return tuple(
            ModelGroup(f"{first} + {second}", first, (first, second), (first, second)) for first, second in pairs
        )
    if method.base is Base.REQUIRED:
        return (ModelGroup("all", base, listed, models),)
    if all(parameter.scope is not Scope.INPUT for parameter in method.parameters):
        return (ModelGroup("all", None, models, models),)
    # A method without a base still lists it, at weight 0: the output takes its configuration and tokenizer from there.
    # With one fine-tune it is merged too, because an average of one model would always be that model.
    searched = (base, *models) if len(models) == 1 else models
    return (ModelGroup("all", base, (base, *listed), searched),)

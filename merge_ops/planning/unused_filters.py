"""Warnings for filters of a recipe that give no tensor its value, such as `layers.0-5`, which is part of no name."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence

from mergesmith.errors import first_few

from ..bank.model_bank import ModelBank
from ..recipes.reader import RecipeWarning
from ..recipes.recipe import Recipe
from .resolver import Resolver
from .structure import Output, PartRecipe, without_values

MOST = 16  # parts of tensor names listed in a message


def warn_of_unused_filters(
    recipe: Recipe, parts: Sequence[PartRecipe], outputs: Sequence[tuple[Output, ...]], bank: ModelBank
) -> None:
    """Warn once of every filter that gives no tensor its value; `outputs` are those of each part.

    mergekit accepts such filters, so published recipes have them, and they do not stop a merge.
    """
    merged = [(Resolver(part, bank), outs) for part, outs in zip(parts, outputs, strict=True) if not part.copied]
    given = dict.fromkeys((name, rule.filter) for resolver, _ in merged for name, rule in resolver.rules())
    filters = tuple((name, text) for name, text in given if text is not None)
    if filters:
        ties = {name: other for part in parts for name, other in bank[part.donor].architecture.ties.items()}
        key = ("unused filters", without_values(recipe).digest, tuple(given))
        for message in bank.remember(key, lambda: tuple(_messages(filters, merged, ties))):
            bank.remember((key[0], message), lambda text=message: warnings.warn(text, RecipeWarning, stacklevel=2))


def _messages(
    filters: Sequence[tuple[str, str]],
    merged: Sequence[tuple[Resolver, tuple[Output, ...]]],
    ties: Mapping[str, str],
) -> Iterator[str]:
    used = {(name, rule.filter) for resolver, outs in merged for o in outs for name, rule in resolver.rules_used(o)}
    names = dict.fromkeys(name for _, outs in merged for o in outs for name in (o.name, *(n for _, n in o.inputs)))
    for parameter, text in filters:
        if (parameter, text) in used:
            continue
        tied = next((name for name in ties if text in name), None)
        if any(text in name for name in names):
            yield (
                f"recipe: {parameter}: filter '{text}' has no effect: other rules, earlier in the list or nearer to "
                "the model, give the value of all tensors that it matches"
            )
        elif tied is not None:
            yield f"recipe: {parameter}: filter '{text}' has no effect: {tied} is tied to {ties[tied]}"
        else:
            yield f"recipe: {parameter}: filter {unmatched_filter(text, names)}"


def unmatched_filter(text: str, names: Collection[str]) -> str:
    """Return the message for a filter that is part of none of the tensor names, with parts of names like it."""
    pieces = list(dict.fromkeys(piece for name in names for piece in name.split(".") if not piece.isdecimal()))
    words = [word for word in text.split(".") if word]
    near = [match for word in words for match in difflib.get_close_matches(word, pieces, n=3, cutoff=0.5)]
    listed = first_few(list(dict.fromkeys(near)) or pieces, MOST)
    return (
        f"'{text}' is part of no tensor name, so it has no effect; it is plain text, without ranges or wildcards. "
        f"Names like it have the parts {listed}; one of them is '{_example(near, names)}'"
    )


def _example(near: Sequence[str], names: Collection[str]) -> str:
    """Return a tensor name with one of the parts, if possible in a layer."""
    having = [name for name in names if any(piece in name.split(".") for piece in near)] or list(names)
    return next((name for name in having if any(piece.isdecimal() for piece in name.split("."))), having[0])

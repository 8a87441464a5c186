"""Heads in merges of models of which some tie the head to the embeddings and others do not.

As in mergekit, the output then has an untied head, and the embeddings of a tied model are its head. An untied head that
equals the embeddings of its model does not count: if all are of that kind and the donor is tied, the output stays tied.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch

from mergesmith.errors import first_few

from ..bank.model_bank import ModelBank


class TiedHeadWarning(UserWarning):
    """The output's head is tied or untied although some of its models are not."""


def stored_name(name: str, model: str, bank: ModelBank) -> str:
    """Return the name under which a model stores a tensor: another one if it ties the tensor."""
    architecture = bank[model].architecture
    return name if name in architecture.shapes else architecture.ties.get(name, name)


def is_untied(name: str, donor: str, models: Sequence[str], bank: ModelBank) -> bool:
    """Return whether the merge of `models` stores a tensor that its donor ties; warn once if some of them store it."""
    having = [model for model in models if name in bank[model].entries]
    if not having:
        return False
    target = bank[donor].architecture.ties[name]
    untied = [model for model in having if not _are_equal(model, name, target, bank)]
    text = (
        f"'{donor}' ties {name} to its embeddings, which {_listed(untied)} does not: the output has an untied head, to "
        "which tied models contribute their embeddings"
        if untied
        else f"{name} of {_listed(having)} equals its embeddings and is left out: the output is tied, as '{donor}' is"
    )
    bank.remember(("tied head", text), lambda: warnings.warn(text, TiedHeadWarning, stacklevel=2))
    return bool(untied)


def warn_of_contributions(name: str, models: Sequence[str], bank: ModelBank) -> None:
    """Warn once if some models tie a tensor that the output stores."""
    tied = [model for model in models if name in bank[model].architecture.ties]
    if tied:
        text = f"{_listed(tied)} ties {name} to its embeddings, which are merged into the output's untied head"
        bank.remember(("tied head", text), lambda: warnings.warn(text, TiedHeadWarning, stacklevel=2))


def _are_equal(model: str, name: str, other: str, bank: ModelBank) -> bool:
    entries = bank[model].entries
    if other not in entries or entries[name].shape != entries[other].shape:
        return False
    key = ("equal tensors", model, name, other)
    return bank.remember(key, lambda: torch.equal(bank.tensor((model, name)), bank.tensor((model, other))))


def _listed(models: Sequence[str]) -> str:
    return first_few([f"'{model}'" for model in models])

"""Rebuilds embeddings and heads for the output's vocabulary, before the merge method is applied.

A token that a model has keeps its row. A missing row comes from the first of these that applies: the recipe's rule for
the token, the only model that has it, the base, the average of the models that have it, zeros. Rows without a token
(padding, unused ids) are the mean of all other rows.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch

from mergesmith.errors import UserError, first_few

from ..architectures.architecture import TEXT, is_before_layers
from ..bank.model_bank import ModelBank
from ..bank.residency import InputKey
from ..recipes.blocks import Module
from ..recipes.recipe import Recipe
from ..recipes.tokenizer_section import TokenRule
from .output_vocabulary import OutputVocabulary, VocabularyWarning, model_vocabulary, rows_of

NONE = -1
CHUNK_ROWS = 1 << 10  # a power of two
MOST = 6  # tokens listed in a message


@dataclass(frozen=True, eq=False)
class RowSources:
    """The origin of each of the S rows in the rebuilt tensors of N models.

    Attributes:
        token_rows: (N, S) int64, the row of the token in each model, or NONE if the model lacks it.
        forced: (S,) bool, the row is replaced even in models that have the token.
        donor: (S,) int64, the model that a missing row is taken from, or NONE.
        donor_row: (S,) int64, the row in that model, or NONE.
        average: (S,) bool, a missing row is the mean over the models that have the token.
        blank: (S,) bool, the row has no token.
        digest: SHA-256 of the above.

    Missing rows to which none of these apply are zeros.
    """

    token_rows: np.ndarray
    forced: np.ndarray
    donor: np.ndarray
    donor_row: np.ndarray
    average: np.ndarray
    blank: np.ndarray
    digest: str

    def missing(self, model: int) -> np.ndarray:
        """Return a mask (S,) of the token rows that do not come from the model itself."""
        return ((self.token_rows[model] == NONE) | self.forced) & ~self.blank

    def unchanged(self, model: int, rows: int) -> bool:
        """Whether the model's tensor, which has `rows` rows, needs no rebuilding."""
        size = self.token_rows.shape[1]
        return rows == size and not self.forced.any() and bool((self.token_rows[model] == np.arange(size)).all())


def rebuilt_keys(
    vocabulary: OutputVocabulary, recipe: Recipe, keys: tuple[InputKey, ...], bank: ModelBank, dtype: torch.dtype | None
) -> tuple[InputKey, ...]:
    """Return the keys of one output tensor's inputs, those of rebuilt tensors if they have one row per token.

    Rebuilt tensors have the dtype `dtype`, or the promoted dtype of the stored ones. Statistics are cached under their
    keys.

    Raises:
        UserError: a rule names a token or row that does not exist.
    """
    if keys[0][1] not in bank[keys[0][0]].architecture.vocabulary:
        return keys
    models = tuple(model for model, _ in keys)
    base = _base(recipe, keys[0][1])
    sources = bank.remember(
        ("rows", vocabulary.section, vocabulary.models, models, base),
        lambda: row_sources(vocabulary, models, base, bank),
    )
    stored = (bank[model].entries[name].dtype for model, name in keys)
    target = dtype or reduce(torch.promote_types, stored)
    return tuple(
        key if sources.unchanged(i, rows_of(key[0], bank)) else _derived(sources, i, keys, target, bank)
        for i, key in enumerate(keys)
    )


def row_sources(vocabulary: OutputVocabulary, models: tuple[str, ...], base: str | None, bank: ModelBank) -> RowSources:
    """Determine the origin of every row of every model's rebuilt tensor.

    Raises:
        UserError: a rule names a token or row that does not exist.
    """
    token_rows = np.stack([_token_rows(vocabulary, model, bank) for model in models])
    blank = np.ones(vocabulary.size, dtype=bool)
    blank[vocabulary.ids] = False
    counts = (token_rows != NONE).sum(0)
    donor = np.where(counts == 1, (token_rows != NONE).argmax(0), NONE)
    if base in models:
        donor[(counts > 1) & (token_rows[models.index(base)] != NONE)] = models.index(base)
    ruled, forced = np.zeros_like(blank), np.zeros_like(blank)
    donor_row = np.where(donor == NONE, NONE, np.take_along_axis(token_rows, np.maximum(donor, 0)[None], 0)[0])
    ids = dict(zip(vocabulary.tokens, vocabulary.ids.tolist(), strict=True))
    for rule in vocabulary.section.rules:
        at = ids[rule.token]
        ruled[at], forced[at] = True, rule.force
        donor[at], donor_row[at] = _ruled(rule, models, bank)
    average = (counts > 1) & (donor == NONE) & ~ruled
    _warn_of_zeros(vocabulary, (counts == 0) & ~ruled & ~blank)
    parts = (token_rows, forced, donor, donor_row, average, blank)
    digest = hashlib.sha256("\0".join((vocabulary.digest, *models)).encode())
    for part in parts:
        digest.update(part.tobytes())
    return RowSources(*parts, digest=digest.hexdigest())


def rebuild(sources: RowSources, model: int, tensor: Callable[[int], torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """Return the rebuilt tensor of one model, (S, ...) of `dtype`; `tensor(i)` is the stored one of model i."""
    stored = tensor(model)

    def index(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(stored.device)

    result = stored.index_select(0, index(np.maximum(sources.token_rows[model], 0))).to(dtype)
    missing = sources.missing(model)
    for donor in np.unique(sources.donor[missing & (sources.donor != NONE)]):
        places = np.flatnonzero(missing & (sources.donor == donor))
        rows = tensor(int(donor)).index_select(0, index(sources.donor_row[places]))
        result.index_copy_(0, index(places), rows.to(dtype))
    places = np.flatnonzero(missing & sources.average)
    if places.size:
        result.index_copy_(0, index(places), _average(sources, places, tensor, dtype))
    result.index_fill_(0, index(np.flatnonzero(missing & (sources.donor == NONE) & ~sources.average)), 0)
    if sources.blank.any():
        mean = mean_row(result.index_select(0, index(np.flatnonzero(~sources.blank))))
        result[index(np.flatnonzero(sources.blank))] = mean.to(dtype)
    return result


def mean_row(rows: torch.Tensor) -> torch.Tensor:
    """Return the mean over the first dimension in float64, (n, ...) to (...), summed in a fixed order."""
    total = torch.zeros_like(rows[0], dtype=torch.float64)
    for start in range(0, rows.shape[0], CHUNK_ROWS):
        chunk = rows[start : start + CHUNK_ROWS].double()
        while chunk.shape[0] > 1:
            half = (chunk.shape[0] + 1) // 2
            folded = chunk[:half].clone()
            folded[: chunk.shape[0] - half] += chunk[half:]
            chunk = folded
        total += chunk[0]
    return total / torch.full_like(total, rows.shape[0])


def _average(
    sources: RowSources, places: np.ndarray, tensor: Callable[[int], torch.Tensor], dtype: torch.dtype
) -> torch.Tensor:
    """Return the means (len(places), ...) over the models that have the token, computed in float32 or float64."""
    working = torch.float64 if dtype == torch.float64 else torch.float32
    total: torch.Tensor | None = None
    for model, model_rows in enumerate(sources.token_rows[:, places]):
        stored = tensor(model)
        if total is None:
            total = torch.zeros((len(places), *stored.shape[1:]), dtype=working, device=stored.device)
        present = np.flatnonzero(model_rows != NONE)
        rows = stored.index_select(0, torch.from_numpy(model_rows[present]).to(stored.device))
        # Every index occurs once, so rows are added in the order of the models.
        total.index_add_(0, torch.from_numpy(present).to(stored.device), rows.to(dtype).to(working))
    assert total is not None, "Should not reach."
    counts = torch.from_numpy((sources.token_rows[:, places] != NONE).sum(0)).to(total)
    return (total / counts.reshape(-1, *[1] * (total.dim() - 1))).to(dtype)


def _derived(
    sources: RowSources, model: int, keys: tuple[InputKey, ...], dtype: torch.dtype, bank: ModelBank
) -> InputKey:
    reference, name = keys[model]
    key = (reference, f"{name} rebuilt as {dtype} {sources.digest}")
    return bank.tensors.derive(key, lambda: rebuild(sources, model, lambda i: bank.tensor(keys[i]), dtype))


def _token_rows(vocabulary: OutputVocabulary, model: str, bank: ModelBank) -> np.ndarray:
    """Return the model's row for each row of the output, (S,) int64, or NONE."""
    known = model_vocabulary(model, bank)
    rows = np.full(vocabulary.size, NONE, dtype=np.int64)
    rows[vocabulary.ids] = [known.get(token, NONE) for token in vocabulary.tokens]
    return rows


def _base(recipe: Recipe, name: str) -> str | None:
    """Return the base of the slice that a tensor outside the layers belongs to."""
    slices = recipe.slices or dict(recipe.modules).get(TEXT, Module()).slices
    if not slices:
        return recipe.base_model
    return slices[0 if is_before_layers(name) else -1].base_model or recipe.base_model


def _ruled(rule: TokenRule, models: tuple[str, ...], bank: ModelBank) -> tuple[int, int]:
    """Return the (model, row) that a rule takes a token's row from; (NONE, NONE) for zeros."""
    if rule.model is None:
        return NONE, NONE
    place = f"tokenizer.tokens.{rule.token}.source"
    if rule.model not in models:
        known = ", ".join(f"'{model}'" for model in models)
        raise UserError(f"{place}: '{rule.model}' is not among the merged models; use one of {known}")
    if rule.token_id is not None:
        if rule.token_id >= (rows := rows_of(rule.model, bank)):
            raise UserError(
                f"{place}.token_id: must be below {rows}, the rows of '{rule.model}', but is {rule.token_id}"
            )
        return models.index(rule.model), rule.token_id
    token = rule.token if rule.source_token is None else rule.source_token
    row = model_vocabulary(rule.model, bank).get(token)
    if row is None:
        raise UserError(f"{place}: '{rule.model}' has no token {token!r}; name one of its tokens, or a token_id")
    return models.index(rule.model), row


def _warn_of_zeros(vocabulary: OutputVocabulary, zeros: np.ndarray) -> None:
    if not zeros.any():
        return
    at = {int(i): token for token, i in zip(vocabulary.tokens, vocabulary.ids, strict=True)}
    names = [repr(at[int(i)]) for i in np.flatnonzero(zeros)]
    warnings.warn(
        f"tokenizer: {len(names)} tokens are in none of the merged models; their rows are zeros: "
        f"{first_few(names, MOST)}",
        VocabularyWarning,
        stacklevel=2,
    )

"""Batches of rows as tensors, built once and used for every candidate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from .rows import TokenRow

TRUNK, PADDING = 0, -1  # branch numbers; the answers of a row are numbered from 1


@dataclass(frozen=True)
class Batch:
    """Rows for one forward pass.

    Attributes:
        prefix: tokens before every row that come from a cache.
        tokens: (rows, length) int64, padded on the right.
        positions: (rows, length) int64, each token's position in its sequence; None if every row is one sequence.
        branches: (rows, length) int16, the answer that a token belongs to, or TRUNK for the context; None as above.
        scored: (n,) int64, distinct ascending indices into the flattened rows whose logits are needed.
        logit_rows: (m,) int64, for every answer token the index into `scored` of the position that predicts it.
        targets: (m,) int64, the answer tokens.
        requests: the requests whose answers make up the targets, in this order.
        starts: (requests,) int64, the index in `targets` at which each answer begins.
    """

    prefix: tuple[int, ...]
    tokens: torch.Tensor
    positions: torch.Tensor | None
    branches: torch.Tensor | None
    scored: torch.Tensor
    logit_rows: torch.Tensor
    targets: torch.Tensor
    requests: tuple[int, ...]
    starts: np.ndarray


def make_batches(rows: Sequence[TokenRow], *, tokens: int, logits: int, device: torch.device) -> tuple[Batch, ...]:
    """Return batches of rows of about equal length, longest first.

    Args:
        rows: the rows.
        tokens: the most tokens in a batch, padding and shared prefixes included; a longer row is a batch by itself.
        logits: the most scored positions in a batch, likewise.
        device: the device of the tensors.
    """
    ordered = sorted(rows, key=lambda row: (_alike(row), -row.length))
    return tuple(
        _batch(chunk, device)
        for _, alike in groupby(ordered, key=_alike)
        for chunk in _chunks(list(alike), tokens, logits)
    )


def visible(batch: Batch) -> torch.Tensor:
    """Return which keys each token of a branched batch may attend to, (rows, length, prefix + length) bool."""
    assert batch.branches is not None, "Should not reach."
    rows, length = batch.branches.shape
    # A row's tokens are ordered by position within each branch, and the trunk comes first.
    seen = batch.branches[:, None, :] == batch.branches[:, :, None]
    seen |= (batch.branches == TRUNK)[:, None, :]
    seen &= torch.ones(length, length, dtype=torch.bool, device=seen.device).tril_()
    return torch.cat([seen.new_ones(rows, length, len(batch.prefix)), seen], 2) if batch.prefix else seen


def within_window(batch: Batch, window: int) -> torch.Tensor:
    """Return which keys are less than `window` positions back, (rows, length, prefix + length) bool."""
    assert batch.positions is not None, "Should not reach."
    before = torch.arange(len(batch.prefix), device=batch.positions.device).expand(len(batch.positions), -1)
    positions = torch.cat([before, batch.positions], 1)
    return batch.positions[:, :, None] - positions[:, None, :] < window


def _alike(row: TokenRow) -> tuple[tuple[int, ...], bool]:
    return row.context[: row.prefix], row.branched


def _chunks(rows: Sequence[TokenRow], tokens: int, logits: int) -> Iterator[Sequence[TokenRow]]:
    start = 0
    while start < len(rows):
        most = max(1, tokens // (rows[start].prefix + rows[start].length))
        end, scored = start, 0
        while end < min(len(rows), start + most) and (end == start or scored + rows[end].scored <= logits):
            scored += rows[end].scored
            end += 1
        yield rows[start:end]
        start = end


def _batch(rows: Sequence[TokenRow], device: torch.device) -> Batch:
    length, branched = max(row.length for row in rows), rows[0].branched
    tokens = torch.empty(len(rows), length, dtype=torch.long)
    positions = torch.zeros(len(rows), length, dtype=torch.long)
    branches = torch.full((len(rows), length), PADDING, dtype=torch.int16)
    places: list[int] = []
    targets: list[int] = []
    requests: list[int] = []
    starts: list[int] = []
    for i, row in enumerate(rows):
        context = row.context[row.prefix :]
        read, depth, branch = list(context), list(range(row.prefix, len(row.context))), [TRUNK] * len(context)
        for number, answer in enumerate(row.answers, start=1):
            first, more = len(targets), len(answer.tokens) - 1
            places += [i * length + len(context) - 1, *range(i * length + len(read), i * length + len(read) + more)]
            targets += answer.tokens
            requests.append(answer.request)
            starts.append(first)
            read += answer.tokens[:-1]
            depth += range(len(row.context), len(row.context) + more)
            branch += [number] * more
        # Padded with the last token: the embedding of a token outside the row could contain NaN.
        tokens[i] = torch.tensor(read + read[-1:] * (length - len(read)))
        positions[i, : len(read)] = torch.tensor(depth)
        branches[i, : len(read)] = torch.tensor(branch, dtype=torch.int16)
    scored, logit_rows = torch.unique(torch.tensor(places), return_inverse=True)
    return Batch(
        prefix=rows[0].context[: rows[0].prefix],
        tokens=tokens.to(device),
        positions=positions.to(device) if branched else None,
        branches=branches.to(device) if branched else None,
        scored=scored.to(device),
        logit_rows=logit_rows.to(device),
        targets=torch.tensor(targets, device=device),
        requests=tuple(requests),
        starts=np.array(starts),
    )

"""Checkpoint names as writable views of a live model's storage.

transformers renames and fuses tensors when it loads a checkpoint (the experts of a mixture become one tensor) and
reverts this on saving. Here its conversion for saving runs on element *indices* instead of weights. The result gives
the live element of every checkpoint element, from which strided views are made. Writing to them updates the model in
place.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

GROUP = re.compile(r"^(.*?\.\d+)\.")  # one layer is mapped at a time, which bounds the memory for indices


@dataclass(frozen=True)
class View:
    """The live storage of some rows of a checkpoint tensor.

    `target` is a view of the live tensor named `live`; `rows` are along the first dimension of the checkpoint tensor
    (all of it for a scalar).
    """

    rows: slice
    target: torch.Tensor
    live: str


@dataclass(frozen=True)
class _Span:
    """The range [start, stop) of indices that represents the elements of one live tensor."""

    start: int
    stop: int
    name: str
    live: torch.Tensor


def checkpoint_views(model: PreTrainedModel, *, groups: Container[str] | None = None) -> dict[str, tuple[View, ...]]:
    """Return the views of every checkpoint tensor of a model by checkpoint name, of `groups` only if given.

    Raises:
        ValueError: a checkpoint tensor cannot be expressed as strided views of live tensors.
    """
    state = model.state_dict()
    grouped: dict[str, list[str]] = {}
    for name in state:
        if groups is None or group_of(name) in groups:
            grouped.setdefault(group_of(name), []).append(name)
    views: dict[str, tuple[View, ...]] = {}
    for names in grouped.values():
        renamed = renamed_only(model, {name: state[name] for name in names})
        if renamed is not None:
            views.update({name: (View(slice(None), state[live], live),) for name, live in renamed.items()})
            continue
        spans, indices = _index_tensors({name: state[name] for name in names})
        for name, index in revert_weight_conversion(model, indices).items():
            views[name] = tuple(_views(name, index, spans)) if index.numel() else ()
    return views


def group_of(name: str) -> str:
    """Return the group (one layer, or all tensors outside the layers) that a live tensor is mapped with."""
    match = GROUP.match(name)
    return match.group(1) if match else ""


def renamed_only(model: PreTrainedModel, tensors: dict[str, torch.Tensor]) -> dict[str, str] | None:
    """Return live names by checkpoint name if saving only renames these tensors, else None.

    Tested with stand-ins of one byte each: indices of a large embedding would take eight bytes per element.
    """
    stand_ins = {name: torch.empty(1, dtype=torch.uint8).expand(live.shape) for name, live in tensors.items()}
    live = {id(stand_ins[name]): name for name in tensors}
    saved = revert_weight_conversion(model, stand_ins)
    if any(id(stand_in) not in live for stand_in in saved.values()):
        return None
    return {name: live[id(stand_in)] for name, stand_in in saved.items()}


def _index_tensors(tensors: dict[str, torch.Tensor]) -> tuple[list[_Span], dict[str, torch.Tensor]]:
    spans: list[_Span] = []
    indices: dict[str, torch.Tensor] = {}
    start = 0
    for name, live in tensors.items():
        stop = start + live.numel()
        spans.append(_Span(start, stop, name, live))
        indices[name] = torch.arange(start, stop).reshape(live.shape)
        start = stop
    return spans, indices


def _views(name: str, index: torch.Tensor, spans: list[_Span]) -> Iterator[View]:
    whole = _view(index, spans, slice(None))
    if whole is not None:
        yield whole
        return
    # The rows of a checkpoint tensor may be in several live ones: split where the live tensor changes.
    first = index.reshape(index.shape[0], -1)[:, 0]
    owner = torch.bucketize(first, torch.tensor([span.stop for span in spans]), right=True)
    changes = (torch.nonzero(owner[1:] != owner[:-1]).flatten() + 1).tolist()
    cuts = [0, *changes, len(owner)]
    for start, stop in pairwise(cuts):
        view = _view(index[start:stop], spans, slice(start, stop))
        if view is None:
            raise ValueError(f"checkpoint tensor '{name}' cannot be expressed as strided views of the live model")
        yield view


def _view(index: torch.Tensor, spans: list[_Span], rows: slice) -> View | None:
    """Return the strided view whose elements have the indices `index`, or None if there is none."""
    first = int(index.reshape(-1)[0])
    span = next(span for span in spans if span.start <= first < span.stop)
    strides = [int(index.select(d, 1).reshape(-1)[0]) - first if index.shape[d] > 1 else 0 for d in range(index.dim())]
    expected = torch.full((), first)
    for dimension, stride in enumerate(strides):
        shape = [1] * index.dim()
        shape[dimension] = -1
        expected = expected + (torch.arange(index.shape[dimension]) * stride).reshape(shape)
    if not torch.equal(expected.expand_as(index), index):
        return None
    if int(index.max()) >= span.stop or not span.live.is_contiguous():
        return None
    target = torch.as_strided(span.live, index.shape, strides, span.live.storage_offset() + first - span.start)
    return View(rows, target, span.name)

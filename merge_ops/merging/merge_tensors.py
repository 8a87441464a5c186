"""From a recipe to merged tensors, one alive at a time: the one place that casts, seeds and names them in errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce

import torch

from ..bank.model_bank import ModelBank, cast_input
from ..checkpoints.weight_files import TensorSpec
from ..executors.dispatch import run
from ..executors.job import TensorJob
from ..methods import Plan, PlanError
from ..planning.merge_plan import MergePlan, TensorTask
from ..vocabulary.embedding_rows import rebuilt_keys
from .host_streaming import staged

BATCH = 1 << 26  # elements that are merged together
MADE = 1 << 27  # bytes that are taken for them, beside what stays
DEVICE_BATCH = 1 << 28  # on other devices than the CPU, where a launch costs more


class MergeError(RuntimeError):
    """A tensor could not be merged with the recipe's numbers; the message names it."""


def materialize_plan(plan: MergePlan, bank: ModelBank) -> Iterator[tuple[str, torch.Tensor]]:
    """Merge a recipe: yields (canonical checkpoint name, tensor in the output dtype on its home device), by name.

    The output dtype is the recipe's out_dtype, else its dtype, else what the inputs promote to. Inputs are cast to the
    recipe's dtype first, as in mergekit; the arithmetic is float32 (float64 where an input is).

    Raises:
        UserError: the sources do not fit the recipe.
        MergeError: a method's numbers define no tensor.
    """
    for task in plan.tasks:
        yield task.name, merge_task(plan, task, bank.at_home(task.name))


@torch.no_grad()
def merge_task(plan: MergePlan, task: TensorTask, bank: ModelBank) -> torch.Tensor:
    """One output tensor of a plan.

    Raises:
        MergeError: the method's numbers define no tensor; the message names it.
    """
    work = prepare(plan, task, bank)
    if isinstance(work, TensorJob):
        run([work])
        return work.out
    return work


@torch.no_grad()
def merge_in_batches(
    plan: MergePlan,
    tasks: Iterable[TensorTask],
    bank: ModelBank,
    target: Callable[[str], torch.Tensor | None],
) -> Iterator[tuple[str, torch.Tensor]]:
    """Merge tensors, small ones together; each into `target(name)` where that has the output's dtype, else a new one.

    A tensor is valid until the next is asked for.

    Raises:
        MergeError: the method's numbers define no tensor; the message names it.
    """
    batch: dict[str, TensorJob] = {}
    size = made = 0
    limit, most = (BATCH, MADE) if bank.device.type == "cpu" else (DEVICE_BATCH, math.inf)
    for task, at_once in staged(tasks, bank):
        work = prepare(plan, task, bank, target(task.name))
        if isinstance(work, TensorJob):
            batch[task.name] = work
            size += work.out.numel()
            made += work.temporary_bytes
        else:
            yield task.name, work
        if at_once or size >= limit or made >= most:
            yield from _run(batch)
            size = made = 0
    yield from _run(batch)


def _run(batch: dict[str, TensorJob]) -> Iterator[tuple[str, torch.Tensor]]:
    run(list(batch.values()))
    yield from ((name, work.out) for name, work in batch.items())
    batch.clear()


def prepare(
    plan: MergePlan, task: TensorTask, bank: ModelBank, target: torch.Tensor | None = None
) -> TensorJob | torch.Tensor:
    """The work of merging one output tensor, into `target` where its dtype is the output's; or a tensor taken as it is.

    Raises:
        MergeError: the method's numbers define no tensor, or inputs that cannot be merged differ; the message names it.
    """
    recipe = plan.recipe
    working, out = torch_dtype(recipe.dtype), torch_dtype(recipe.out_dtype or recipe.dtype)
    keys = task.inputs
    if plan.vocabulary is not None:
        keys = rebuilt_keys(plan.vocabulary, recipe, keys, bank, working)
    stored = [bank.tensor(key) for key in keys]
    if not stored[0].is_floating_point():
        return _same(stored, task)
    dtype = out or reduce(torch.promote_types, (x.dtype for x in stored))
    if task.copied:
        return stored[0].to(dtype)
    base = task.numbers.base
    try:
        method_plan: Plan = plan.method.plan(task.numbers, bank.statistics(keys, base, working))
    except PlanError as error:
        raise MergeError(f"{plan.method.name}: tensor '{task.name}': {error}") from error
    inputs = tuple(cast_input(x, working) for x in stored)
    made = sum(x.nbytes for key, x in zip(keys, inputs, strict=True) if not bank.holds(key, x))
    if target is None or target.dtype != dtype:
        target = torch.empty(stored[0].shape, dtype=dtype, device=stored[0].device)
        made += target.nbytes
    return TensorJob(
        plan=method_plan,
        inputs=inputs,
        out=target,
        base=base,
        seed=recipe.seed,
        name=task.name,
        repeated=bank.keep_deltas,
        remember=lambda places, name, make: bank.remember((tuple(keys[i] for i in places), working, name), make),
        temporary_bytes=made,
    )


def output_spec(plan: MergePlan, task: TensorTask, bank: ModelBank) -> TensorSpec:
    """Shape and dtype of one output tensor, before it is made."""
    entries = [bank[model].entries[name] for model, name in task.inputs]
    model, name = task.inputs[0]
    shape, dtype = entries[0].shape, entries[0].dtype
    if plan.vocabulary is not None and name in bank[model].architecture.vocabulary:
        shape = (plan.vocabulary.size, *shape[1:])
    if dtype.is_floating_point:
        promoted = reduce(torch.promote_types, (entry.dtype for entry in entries))
        dtype = torch_dtype(plan.recipe.out_dtype or plan.recipe.dtype) or promoted
    return TensorSpec(shape, dtype)


def _same(tensors: Sequence[torch.Tensor], task: TensorTask) -> torch.Tensor:
    if any(not torch.equal(tensors[0], other) for other in tensors[1:]):
        models = ", ".join(f"'{model}'" for model, _ in task.inputs)
        raise MergeError(f"tensor '{task.name}' holds no floating-point numbers and differs between {models}")
    return tensors[0]


def torch_dtype(name: str | None) -> torch.dtype | None:
    """The torch dtype of a recipe's dtype name."""
    return None if name is None else getattr(torch, name)

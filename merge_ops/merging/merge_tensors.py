"""Turns the tasks of a merge plan into jobs for the executors, and yields the merged tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce

import torch

from ..bank.input_statistics import InputStatistics
from ..bank.model_bank import ModelBank, cast_input
from ..checkpoints.weight_files import TensorSpec
from ..executors.dispatch import run
from ..executors.job import TensorJob
from ..methods import Plan, PlanError
from ..planning.merge_plan import MergePlan, TensorTask
from ..vocabulary.embedding_rows import rebuilt_keys
from .host_streaming import staged

BATCH_ELEMENTS = 1 << 26  # output elements merged in one batch on the CPU
BATCH_BYTES = 1 << 27  # bytes of temporary tensors of a batch on the CPU
DEVICE_BATCH_ELEMENTS = 1 << 28  # on other devices, where a kernel launch costs more


class MergeError(RuntimeError):
    """A tensor cannot be merged with the recipe's parameter values; the message names it."""


def materialize_plan(plan: MergePlan, bank: ModelBank) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (canonical checkpoint name, merged tensor in the output dtype on its home device), sorted by name.

    The output dtype is the recipe's out_dtype, else its dtype, else the promoted dtype of the inputs. Inputs are cast
    to the recipe's dtype first, as in mergekit; the arithmetic is float32 (float64 if an input is).

    Raises:
        MergeError: the parameter values define no tensor.
    """
    for task in plan.tasks:
        yield task.name, merge_task(plan, task, bank.at_home(task.name))


@torch.no_grad()
def merge_task(plan: MergePlan, task: TensorTask, bank: ModelBank) -> torch.Tensor:
    """Merge one output tensor of a plan.

    Raises:
        MergeError: the parameter values define no tensor.
    """
    job = job_of(plan, task, bank)
    if isinstance(job, torch.Tensor):
        return job
    run([job])
    return job.out


@torch.no_grad()
def merge_in_batches(
    plan: MergePlan,
    tasks: Iterable[TensorTask],
    bank: ModelBank,
    target: Callable[[str], torch.Tensor | None],
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield merged tensors by name, merging small ones in batches.

    A tensor is written to `target(name)` if that has the output's dtype, else to a new tensor. It is valid until the
    next one is requested.

    Raises:
        MergeError: the parameter values define no tensor.
    """
    batch: dict[str, TensorJob] = {}
    elements = temporary = 0
    on_cpu = bank.device.type == "cpu"
    most_elements, most_temporary = (BATCH_ELEMENTS, BATCH_BYTES) if on_cpu else (DEVICE_BATCH_ELEMENTS, math.inf)
    for task, at_once in staged(tasks, bank):
        job = job_of(plan, task, bank, target(task.name))
        if isinstance(job, torch.Tensor):
            yield task.name, job
        else:
            batch[task.name] = job
            elements += job.out.numel()
            temporary += job.temporary_bytes
        if at_once or elements >= most_elements or temporary >= most_temporary:
            yield from _run(batch)
            elements = temporary = 0
    yield from _run(batch)


def _run(batch: dict[str, TensorJob]) -> Iterator[tuple[str, torch.Tensor]]:
    run(list(batch.values()))
    yield from ((name, job.out) for name, job in batch.items())
    batch.clear()


def job_of(
    plan: MergePlan, task: TensorTask, bank: ModelBank, target: torch.Tensor | None = None
) -> TensorJob | torch.Tensor:
    """Return the job that merges one output tensor, or the tensor itself if there is nothing to merge.

    The job writes into `target` if that has the output's dtype, else into a new tensor.

    Raises:
        MergeError: the parameter values define no tensor, or inputs that cannot be merged differ.
    """
    recipe = plan.recipe
    working, out = torch_dtype(recipe.dtype), torch_dtype(recipe.out_dtype or recipe.dtype)
    keys = task.inputs
    if plan.vocabulary is not None:
        keys = rebuilt_keys(plan.vocabulary, recipe, keys, bank, working)
    stored = [bank.tensor(key) for key in keys]
    if not all(tensor.is_floating_point() for tensor in stored):
        return _same(stored, task)
    dtype = out or reduce(torch.promote_types, (x.dtype for x in stored))
    if task.copied:
        return stored[0].to(dtype)
    method_plan = _method_plan(plan, task, bank.statistics(keys, task.values.base, working))
    inputs = tuple(cast_input(x, working) for x in stored)
    temporary = sum(x.nbytes for key, x in zip(keys, inputs, strict=True) if not bank.tensors.holds(key, x))
    if target is None or target.dtype != dtype:
        target = torch.empty(stored[0].shape, dtype=dtype, device=stored[0].device)
        temporary += target.nbytes
    return TensorJob(
        plan=method_plan,
        inputs=inputs,
        out=target,
        base=task.values.base,
        seed=recipe.seed,
        name=task.name,
        repeated=bank.residency.keep_deltas,
        remember=lambda places, name, make: bank.remember((tuple(keys[i] for i in places), working, name), make),
        temporary_bytes=temporary,
    )


def _method_plan(plan: MergePlan, task: TensorTask, statistics: InputStatistics) -> Plan:
    try:
        return plan.method.plan(task.values, statistics)
    except PlanError as error:
        raise MergeError(f"{plan.method.name}: tensor '{task.name}': {error}") from error


def output_spec(plan: MergePlan, task: TensorTask, bank: ModelBank) -> TensorSpec:
    """Return shape and dtype of an output tensor without merging it."""
    entries = [bank[model].entries[name] for model, name in task.inputs]
    model, name = task.inputs[0]
    shape, dtype = entries[0].shape, entries[0].dtype
    if plan.vocabulary is not None and name in bank[model].architecture.vocabulary:
        shape = (plan.vocabulary.size, *shape[1:])
    if all(entry.dtype.is_floating_point for entry in entries):
        promoted = reduce(torch.promote_types, (entry.dtype for entry in entries))
        dtype = torch_dtype(plan.recipe.out_dtype or plan.recipe.dtype) or promoted
    return TensorSpec(shape, dtype)


def _same(tensors: Sequence[torch.Tensor], task: TensorTask) -> torch.Tensor:
    if any(not torch.equal(tensors[0], other) for other in tensors[1:]):
        models = ", ".join(f"'{model}'" for model, _ in task.inputs)
        raise MergeError(f"tensor '{task.name}' is not of a floating-point dtype and differs between {models}")
    return tensors[0]


def torch_dtype(name: str | None) -> torch.dtype | None:
    """Return the torch dtype of a dtype name in a recipe; None for None."""
    return None if name is None else getattr(torch, name)

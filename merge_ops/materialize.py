"""From a recipe to merged tensors, one alive at a time: the one place that casts, seeds and names them in errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce

import torch

from .bank import ModelBank, cast
from .execute import execute
from .methods import Plan, PlanError
from .plan import MergePlan, TensorTask, plan_merge
from .recipe import Recipe
from .vocabulary_rows import rebuilt_keys


class MergeError(RuntimeError):
    """A tensor could not be merged with the recipe's numbers; the message names it."""


def materialize(recipe: Recipe | MergePlan, bank: ModelBank) -> Iterator[tuple[str, torch.Tensor]]:
    """Merge a recipe: yields (canonical checkpoint name, tensor in the output dtype on the bank's device), by name.

    The output dtype is the recipe's out_dtype, else its dtype, else what the inputs promote to. Inputs are cast to the
    recipe's dtype first, as in mergekit; the arithmetic is float32 (float64 where an input is).

    Raises:
        UserError: the sources do not fit the recipe.
        MergeError: a method's numbers define no tensor.
    """
    plan = recipe if isinstance(recipe, MergePlan) else plan_merge(recipe, bank)
    for task in plan.tasks:
        yield task.name, merge_task(plan, task, bank)


def merge_task(plan: MergePlan, task: TensorTask, bank: ModelBank) -> torch.Tensor:
    """One output tensor of a plan.

    Raises:
        MergeError: the method's numbers define no tensor; the message names it.
    """
    try:
        return merge_tensor(plan, task, bank)
    except PlanError as error:
        raise MergeError(f"{plan.method.name}: tensor '{task.name}': {error}") from error


@torch.no_grad()
def merge_tensor(plan: MergePlan, task: TensorTask, bank: ModelBank) -> torch.Tensor:
    """One output tensor of a plan."""
    recipe = plan.recipe
    work, out = torch_dtype(recipe.dtype), torch_dtype(recipe.out_dtype or recipe.dtype)
    keys = task.inputs
    if plan.vocabulary is not None:
        keys = rebuilt_keys(plan.vocabulary, recipe, keys, bank, work)
    stored = [bank.tensor(key) for key in keys]
    if not stored[0].is_floating_point():
        return _same(stored, task)
    out = out or reduce(torch.promote_types, (x.dtype for x in stored))
    if task.copied:
        return stored[0].to(out)
    method_plan: Plan = plan.method.plan(task.numbers, bank.statistics(keys, task.numbers.base, work))
    inputs = [cast(x, work) for x in stored]
    merged = execute(method_plan, inputs, base=task.numbers.base, seed=recipe.seed, name=task.name)
    return merged.to(out)


def _same(tensors: Sequence[torch.Tensor], task: TensorTask) -> torch.Tensor:
    if any(not torch.equal(tensors[0], other) for other in tensors[1:]):
        models = ", ".join(f"'{model}'" for model, _ in task.inputs)
        raise MergeError(f"tensor '{task.name}' holds no floating-point numbers and differs between {models}")
    return tensors[0]


def torch_dtype(name: str | None) -> torch.dtype | None:
    """The torch dtype of a recipe's dtype name."""
    return None if name is None else getattr(torch, name)

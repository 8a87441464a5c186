"""A transformers model that is built once; merged candidates are written into its storage."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from ..architectures.meta_model import config_from, load_config
from ..architectures.model_class import model_class
from ..architectures.quiet_transformers import quiet_transformers
from ..architectures.weight_views import View, checkpoint_views
from ..bank.model_bank import ModelBank
from ..checkpoints.weights_digest import WeightsDigest
from ..merging.merge_tensors import merge_in_batches, torch_dtype
from ..merging.plan_recipe import plan_merge
from ..planning.merge_plan import MergePlan, TensorTask
from ..planning.output_config import merged_config, output_ties
from ..planning.structure import without_values
from ..recipes.recipe import Recipe
from ..vocabulary.token_ids import output_generation_config
from .device_map import device_map, spread


class LoadedWeights:
    """Records which task and which tensor versions produced the live weights, to skip tensors that have not changed.

    `Tensor._version` counts in-place changes by torch operations; our kernels bypass it.
    """

    def __init__(self, conditions: Any = None) -> None:
        self._conditions = conditions
        self._tasks: dict[str, tuple[TensorTask, tuple[int, ...]]] = {}

    @staticmethod
    def conditions_of(plan: MergePlan) -> Any:
        """Return everything except its task that a merged tensor depends on."""
        return without_values(plan.recipe), plan.recipe.seed if plan.method.random else None

    def holds(self, other: LoadedWeights, task: TensorTask, views: Mapping[str, tuple[View, ...]]) -> bool:
        """Whether the tensor that `task` produces under the conditions of `other` is already in place."""
        if self._conditions is None or self._conditions != other._conditions:
            return False
        known = self._tasks.get(task.name)
        return known is not None and known == (task, _versions(views[task.name]))

    def note(self, task: TensorTask, views: Mapping[str, tuple[View, ...]]) -> None:
        """Record the tensor that a task has produced."""
        self._tasks[task.name] = task, _versions(views[task.name])


def _versions(views: tuple[View, ...]) -> tuple[int, ...]:
    return tuple([view.target._version for view in views])


class LiveModel:
    """The model that candidates are scored with.

    `load` writes a recipe's merged tensors into the existing storage of `model`, without reallocation. The model is
    rebuilt only if a recipe gives another configuration (such as another depth or dtype).

    The model holds its weights in `dtype`, after they were rounded to the recipe's output dtype; None is that dtype.

    With several `devices`, the first of which is the bank's, the layers are spread over them (`device_map.py`), and
    every tensor is merged on its device. `memory` is the size of each, in any unit (default: all equal).
    """

    def __init__(
        self,
        bank: ModelBank,
        *,
        devices: Sequence[torch.device] = (),
        memory: Sequence[int] | None = None,
        dtype: str | None = None,
    ) -> None:
        self.bank, self.dtype = bank, dtype
        self.devices = tuple(devices) or (bank.device,)
        self.memory = tuple(memory) if memory is not None else (1,) * len(self.devices)
        self._built_for: str | None = None
        self._model: PreTrainedModel | None = None
        self._views: Mapping[str, tuple[View, ...]] = {}
        self._written: LoadedWeights = LoadedWeights()

    @property
    def model(self) -> PreTrainedModel:
        """The live model, in evaluation mode.

        Raises:
            RuntimeError: no recipe has been loaded yet.
        """
        if self._model is None:
            raise RuntimeError("no recipe has been loaded yet: call load(recipe) first")
        return self._model

    @property
    def views(self) -> Mapping[str, tuple[View, ...]]:
        """The storage of every merged tensor in the live model, by checkpoint name."""
        return self._views

    def hold_in(self, dtype: str | None) -> None:
        """Hold the weights in another dtype from the next recipe on."""
        self.dtype = dtype

    @torch.no_grad()
    def load(self, recipe: Recipe, *, digest: WeightsDigest | None = None) -> None:
        """Merge a recipe into the model, and add its weights to `digest` if given.

        Without `digest`, tensors with the same inputs and parameter values as in the previous recipe are skipped.

        Raises:
            UserError: the sources are not compatible with each other or with the recipe.
            MergeError: the parameter values define no tensor.
        """
        plan = plan_merge(recipe, self.bank)
        self._build(plan)
        self._set_generation_config(plan)
        missing = set(self._views) - {task.name for task in plan.tasks}
        if missing:
            raise RuntimeError(f"the merge has no tensor for {sorted(missing)[:5]} of the live model")
        before, now = self._written, LoadedWeights(LoadedWeights.conditions_of(plan))
        self._written = LoadedWeights()  # if merging fails, the weights are in an unknown state
        changed = [task for task in plan.tasks if digest is not None or not before.holds(now, task, self._views)]
        for bank, tasks in self._by_device(changed):
            for name, tensor in merge_in_batches(plan, tasks, bank, self._target):
                for view in self._views[name]:
                    if view.target is not tensor:
                        view.target.copy_(tensor[view.rows] if tensor.dim() else tensor)
                if digest is not None:
                    digest.add(name, tensor)
        for task in plan.tasks:
            now.note(task, self._views)
        self._written = now

    def _by_device(self, tasks: Sequence[TensorTask]) -> Iterator[tuple[ModelBank, Iterable[TensorTask]]]:
        """Group tasks by the device of their tensors, and yield them with the bank of that device."""
        if len(self.devices) == 1:
            yield self.bank, tasks
            return
        groups: dict[torch.device, list[TensorTask]] = {}
        for task in tasks:
            views = self._views[task.name]
            groups.setdefault(views[0].target.device if views else self.bank.device, []).append(task)
        yield from ((self.bank.on(device), group) for device, group in groups.items())

    def _target(self, name: str) -> torch.Tensor | None:
        """Return the live tensor that a merged tensor can be written to directly, or None."""
        views = self._views[name]
        whole = len(views) == 1 and views[0].rows == slice(None) and views[0].target.is_contiguous()
        return views[0].target if whole else None

    def _build(self, plan: MergePlan) -> None:
        donor = self.bank[plan.donor]
        config = merged_config(plan, self.bank)
        if self.dtype is not None:
            config["dtype"] = self.dtype
        # Without the donor's name: models that differ only in weights share one live model.
        compared = {key: value for key, value in config.items() if key not in ("_name_or_path", "transformers_version")}
        ties = output_ties(plan, self.bank)
        key = json.dumps([compared, ties], sort_keys=True)
        if key == self._built_for:
            return
        dtype = torch_dtype(config.get("dtype")) or torch.float32
        hooked = self._model is not None and len(self.devices) > 1
        self._model, self._views, self._built_for = None, {}, None  # frees the old model first
        self._written = LoadedWeights()
        if hooked:
            gc.collect()  # hooks and modules form reference cycles
        with quiet_transformers():
            if donor.on_disk and _without_dtype(config) == _without_dtype(donor.config):
                trust = self.bank.trust_remote_code
                kind = model_class(
                    load_config(donor.folder, plan.donor, trust_remote_code=trust), trust_remote_code=trust
                )
                model = kind.loader.from_pretrained(donor.folder, dtype=dtype, trust_remote_code=trust)
                # Otherwise, views would use the names in the folder's files instead of canonical ones.
                vars(model).pop("_weight_conversions", None)
            else:
                settings = config_from(config, donor.folder, trust_remote_code=self.bank.trust_remote_code)
                model = _empty_model(settings, dtype, trust_remote_code=self.bank.trust_remote_code)
        model = cast("PreTrainedModel", self._placed(cast("torch.nn.Module", model)))
        model.eval().requires_grad_(False)
        views = checkpoint_views(model)
        self._views = {name: views[name] for name in views if name not in ties}
        self._model, self._built_for = model, key

    def _set_generation_config(self, plan: MergePlan) -> None:
        """Give the model the generation settings that `from_pretrained` would read from the written checkpoint."""
        assert self._model is not None, "Should not reach."
        if self._model.can_generate():
            document = output_generation_config(plan.donor, plan.vocabulary, self.bank)
            with quiet_transformers():
                self._model.generation_config = (
                    GenerationConfig.from_model_config(self._model.config)
                    if document is None
                    else GenerationConfig.from_dict(document)
                )

    def _placed(self, model: torch.nn.Module) -> torch.nn.Module:
        if len(self.devices) == 1:
            return model.to(self.bank.device)
        return spread(model, device_map(model, self.devices, self.memory))


def _without_dtype(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ("dtype", "torch_dtype")}


def _empty_model(settings: Any, dtype: torch.dtype, *, trust_remote_code: bool) -> Any:
    # Built in this dtype, because casting a built model would round its rotary tables.
    with no_init_weights():
        kind = model_class(settings, trust_remote_code=trust_remote_code)
        model = kind.build(settings, dtype=dtype, trust_remote_code=trust_remote_code)
    model.tie_weights()  # is part of the skipped initialization
    return model

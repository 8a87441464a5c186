"""One transformers model, built once, into whose storage candidates are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import torch
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from .architecture import config_from, load_config, model_class
from .bank import ModelBank
from .checkpoint import Checkpoint
from .config_json import merged_config
from .digest import WeightsDigest
from .materialize import materialize, torch_dtype
from .plan import MergePlan, plan_merge
from .quiet import quiet_transformers
from .recipe import Recipe
from .weight_views import View, checkpoint_views


class LiveModel:
    """The model that candidates are scored in.

    `load` writes a recipe's merged tensors into the model's own storage: no reallocation, and the same `model` object
    as long as recipes agree in depth and output dtype. It is rebuilt only when they do not.
    """

    def __init__(self, bank: ModelBank) -> None:
        self.bank = bank
        self._built_for: str | None = None
        self._model: PreTrainedModel | None = None
        self._views: Mapping[str, tuple[View, ...]] = {}

    @property
    def model(self) -> PreTrainedModel:
        """The live model, in evaluation mode; there is none before the first `load`."""
        if self._model is None:
            raise RuntimeError("no recipe has been loaded yet: call load(recipe) first")
        return self._model

    @torch.no_grad()
    def load(self, recipe: Recipe, *, digest: WeightsDigest | None = None) -> None:
        """Write a candidate into the model; `digest`, where given, takes in the weights on their way.

        Raises:
            UserError: the sources do not fit the recipe.
            MergeError: a method's numbers define no tensor.
        """
        plan = plan_merge(recipe, self.bank)
        self._build(plan)
        missing = set(self._views)
        stream = materialize(plan, self.bank)
        for name, tensor in stream if digest is None else digest.watch(stream):
            for view in self._views[name]:
                view.target.copy_(tensor[view.rows] if tensor.dim() else tensor)
            missing.discard(name)
        if missing:
            raise RuntimeError(f"the merge gave no tensor for {sorted(missing)[:5]} of the live model")

    def _build(self, plan: MergePlan) -> None:
        donor = self.bank[plan.donor]
        config = merged_config(plan, self.bank)
        # Not the donor's name: models that differ in weights alone share one live model.
        said = {name: value for name, value in config.items() if name not in ("_name_or_path", "transformers_version")}
        key = json.dumps([said, donor.architecture.ties], sort_keys=True)
        if key == self._built_for:
            return
        dtype = torch_dtype(config.get("dtype")) or torch.float32
        self._model, self._views, self._built_for = None, {}, None  # frees the old one first
        with quiet_transformers():
            if isinstance(donor, Checkpoint) and _without_dtype(config) == _without_dtype(donor.config):
                trust = self.bank.trust_remote_code
                loader = model_class(load_config(donor.folder, plan.donor, trust_remote_code=trust))
                model = loader.from_pretrained(donor.folder, dtype=dtype, trust_remote_code=trust)
                # What loading remembers of this folder's names would bring those back; ours are the canonical ones.
                vars(model).pop("_weight_conversions", None)
            else:
                settings = config_from(config, donor.folder, trust_remote_code=self.bank.trust_remote_code)
                model = _empty_model(settings, dtype, trust_remote_code=self.bank.trust_remote_code)
        model = cast("PreTrainedModel", cast("torch.nn.Module", model).to(self.bank.device))
        model.eval().requires_grad_(False)
        views = checkpoint_views(model)
        self._views = {name: views[name] for name in views if name not in donor.architecture.ties}
        self._model, self._built_for = model, key


def _without_dtype(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ("dtype", "torch_dtype")}


def _empty_model(settings: Any, dtype: torch.dtype, *, trust_remote_code: bool) -> Any:
    # In this dtype from the start: casting a built model would round its rotary tables.
    with no_init_weights():
        model = model_class(settings).from_config(settings, dtype=dtype, trust_remote_code=trust_remote_code)
    model.tie_weights()  # part of the initialization that was left out
    return model

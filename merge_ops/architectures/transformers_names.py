"""Maps module names and legacy checkpoint names that transformers accepts to canonical names."""

from __future__ import annotations

import re
from functools import cached_property

import torch
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from .canonical_names import Part
from .weight_views import checkpoint_views, group_of, renamed_only


class LiveNames:
    """Maps the non-canonical names of one kind of model, given as a model without weights on the meta device."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.state = model.state_dict()
        self.ignored = (
            *(model._keys_to_ignore_on_load_unexpected or ()),
            *(r"rotary_emb\.inv_freq$", r"attn\.masked_bias$"),
        )
        self._fused: dict[str, dict[str, Part]] = {}

    def canonical(self, name: str) -> dict[str, Part | None] | None:
        """Do the same as `StoredNames.canonical`, for a name that is not canonical."""
        live = self._live_name(name)
        if live in self.state:
            whole = self._renamed.get(live)
            return {whole: None} if whole is not None else dict(self._parts(live))
        ignored = any(re.search(pattern, text) for pattern in self.ignored for text in (name, live))
        return None if ignored else {name: None}

    def _live_name(self, name: str) -> str:
        """Return the name of the model's tensor that a whole stored tensor is loaded into."""
        if name in self.state:
            return name
        renamings, converters = self._conversions
        live, fused_by = rename_source_key(name, renamings, converters, self.model.base_model_prefix, self.state)
        return name if fused_by is not None else live

    @cached_property
    def _conversions(self) -> tuple[list[WeightRenaming], list[WeightConverter]]:
        conversions = get_model_conversion_mapping(self.model)
        renamings = [entry for entry in conversions if isinstance(entry, WeightRenaming)]
        return renamings, [entry for entry in conversions if isinstance(entry, WeightConverter)]

    @cached_property
    def _renamed(self) -> dict[str, str]:
        """Canonical names by live name, for tensors that saving keeps or only renames."""
        groups: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in self.state.items():
            groups.setdefault(group_of(name), {})[name] = tensor
        renamed: dict[str, str] = {}
        for tensors in groups.values():
            # In a group with fused tensors, each tensor is tested by itself.
            pieces = [tensors] if renamed_only(self.model, tensors) else [{n: t} for n, t in tensors.items()]
            for piece in pieces:
                live_names = renamed_only(self.model, piece) or {}
                renamed.update({live: name for name, live in live_names.items()})
        return renamed

    def _parts(self, live: str) -> dict[str, Part]:
        """Return the canonical tensors that one fused live tensor holds."""
        if live not in self._fused:
            for name, views in checkpoint_views(self.model, groups=(group_of(live),)).items():
                if len(views) == 1:  # a tensor spread over several live ones cannot be read from such files
                    target = views[0].target
                    part = Part(tuple(target.shape), target.stride(), int(target.storage_offset()))
                    self._fused.setdefault(views[0].live, {})[name] = part
        return self._fused.get(live, {})

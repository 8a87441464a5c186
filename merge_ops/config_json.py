"""The config.json of a merged model: the donor's, with what the merge changed."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from typing import Any

import torch

from .bank import ModelBank
from .plan import MergePlan
from .special_tokens import follow_vocabulary


def merged_config(plan: MergePlan, bank: ModelBank) -> dict[str, Any]:
    """The donor's config.json with the output's depth, per-layer lists, vocabulary and dtype."""
    donor = bank[plan.donor]
    config = dict(donor.config)
    depth, own_depth = len(plan.layers), donor.architecture.num_layers
    if depth != own_depth:
        config[donor.architecture.layer_key] = depth
    for key, value in donor.config.items():
        # A list with one entry per layer (layer_types, sliding windows) follows the layers.
        if isinstance(value, list) and len(value) == own_depth and key.endswith(("layer_types", "_per_layer")):
            lists = {model: bank[model].config.get(key) or value for model, _ in plan.layers}
            config[key] = [lists[model][layer] for model, layer in plan.layers if layer < len(lists[model])]
    if plan.vocabulary is not None:
        config = follow_vocabulary(config, plan.donor, "config.json", plan.vocabulary, bank)
        if plan.vocabulary.size != donor.architecture.vocab_size:
            config[donor.architecture.vocabulary_key] = plan.vocabulary.size
    config.pop("torch_dtype", None)
    config["dtype"] = output_dtype(plan, bank)
    return config


def output_dtype(plan: MergePlan, bank: ModelBank) -> str:
    """The name of the dtype that the merged model is in: that of most of its floating-point tensors."""
    named = plan.recipe.out_dtype or plan.recipe.dtype
    if named is not None:
        return named
    elements: Counter[torch.dtype] = Counter()
    for task in plan.tasks:
        entries = [bank[model].entries[name] for model, name in task.inputs]
        if entries[0].dtype.is_floating_point:
            dtype = reduce(torch.promote_types, (entry.dtype for entry in entries))
            elements[dtype] += 1
    return str(elements.most_common(1)[0][0]).removeprefix("torch.")

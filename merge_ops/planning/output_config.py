"""The config.json of a merged model: the donor's, with the changes that the merge makes."""

from __future__ import annotations

import re
from collections import Counter
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch

from ..bank.model_bank import ModelBank
from ..vocabulary.token_ids import CONFIG, follow_vocabulary

if TYPE_CHECKING:
    from .merge_plan import MergePlan

TIES = "tie_word_embeddings"
# Settings that list numbers of layers, and settings that are lists but never have one value per layer.
LAYER_NUMBERS = ("mlp_only_layers", "full_attn_idxs", "moe_layers", "attn_layer_indices", "cross_attention_layers")
NEVER_PER_LAYER = re.compile(r"architectures$|_tokens?$|_ids?$|_section$")


def merged_config(plan: MergePlan, bank: ModelBank) -> dict[str, Any]:
    """Return the donor's config.json with the output's depth, per-layer lists, vocabulary and dtype."""
    donor = bank[plan.donor]
    config = {key: _without_dtype(value) for key, value in donor.config.items()}
    depth, architecture = len(plan.layers), donor.architecture
    text = config if architecture.text_key is None else dict(config.get(architecture.text_key) or {})
    if depth != architecture.num_layers:
        text[architecture.layer_key] = depth
    text.update(layer_settings(plan, bank))
    vocabulary = plan.vocabulary
    if vocabulary is not None:
        text = follow_vocabulary(text, plan.donor, CONFIG, vocabulary, bank, part=architecture.text_key)
        if vocabulary.size != architecture.vocab_size:
            text[architecture.vocabulary_key] = vocabulary.size
            config.update({key: vocabulary.size for key in (architecture.vocabulary_key,) if key in config})
    if architecture.text_key is None:
        config = text
    else:
        if vocabulary is not None:
            config = follow_vocabulary(config, plan.donor, CONFIG, vocabulary, bank)
        config[architecture.text_key] = text
    if output_ties(plan, bank) != architecture.ties:
        (config if architecture.text_key is None else config[architecture.text_key])[TIES] = False
        config[TIES] = False
    config.pop("torch_dtype", None)
    config["dtype"] = output_dtype(plan, bank)
    return config


def output_ties(plan: MergePlan, bank: ModelBank) -> dict[str, str]:
    """Return the output's ties: those of the donor, without tensors that the output stores."""
    stored = {task.name for task in plan.tasks}
    return {name: other for name, other in bank[plan.donor].architecture.ties.items() if name not in stored}


def _without_dtype(value: Any) -> Any:
    """Return the configuration of a part without its dtype: the whole model has one dtype."""
    if not isinstance(value, dict):
        return value
    return {key: entry for key, entry in value.items() if key not in ("dtype", "torch_dtype")}


def layer_settings(plan: MergePlan, bank: ModelBank) -> dict[str, list[Any]]:
    """Return the per-layer settings (such as `layer_types`) that change when the layers are reordered.

    They are taken from the configuration as transformers completes it: values that it would derive from the number of a
    layer (such as sliding attention in every second one) must be written explicitly for another order.
    """
    architecture = bank[plan.donor].architecture
    changed: dict[str, list[Any]] = {}
    for key, value in architecture.settings.items():
        if not isinstance(value, list | tuple):
            continue
        values = [bank[model].architecture.settings.get(key) or value for model, _ in plan.layers]
        if key in LAYER_NUMBERS:
            new = [i for i, (_, layer) in enumerate(plan.layers) if layer in values[i]]
        elif len(value) == architecture.num_layers and not NEVER_PER_LAYER.search(key):
            new = [values[i][layer] for i, (_, layer) in enumerate(plan.layers) if layer < len(values[i])]
        else:
            continue
        if new != list(value):
            changed[key] = new
    return changed


def output_dtype(plan: MergePlan, bank: ModelBank) -> str:
    """Return the name of the merged model's dtype: the recipe's, else that of most floating-point tensors."""
    named = plan.recipe.out_dtype or plan.recipe.dtype
    if named is not None:
        return named
    elements: Counter[torch.dtype] = Counter()
    for task in plan.tasks:
        entries = [bank[model].entries[name] for model, name in task.inputs]
        if all(entry.dtype.is_floating_point for entry in entries):
            dtype = reduce(torch.promote_types, (entry.dtype for entry in entries))
            elements[dtype] += 1
    return str(elements.most_common(1)[0][0]).removeprefix("torch.")

"""Reads and checks PEFT's adapter_config.json: settings that would change the merged weights must be supported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergesmith.errors import Faults

from .find_model import ADAPTER_CONFIG, read_adapter_config

# Keys that are read below or do not affect the merged weights (the tensors show which modules were trained).
KNOWN = (
    *("peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping"),
    *("peft_version", "r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern", "bias"),
    *("target_modules", "exclude_modules", "modules_to_save", "fan_in_fan_out", "init_lora_weights"),
    *("layers_to_transform", "layers_pattern", "ensure_weight_tying", "runtime_config", "qalora_group_size"),
    *("megatron_config", "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config"),
)
REASONS = {
    "use_dora": "DoRA rescales every row by a trained magnitude",
    "use_qalora": "QALoRA pools the inputs in groups",
    "trainable_token_indices": "single rows of the embeddings were trained",
    "target_parameters": "parameters that are not the weight of a module were trained",
    "layer_replication": "layers of the base are repeated",
    "alora_invocation_tokens": "the adapter acts only after certain tokens",
    "lora_bias": "biases were trained with the adapter",
}
MERGE_IT = "merge it with PEFT (merge_and_unload, save_pretrained) and use the result"
PLAIN_STARTS = (None, True, False, "true", "gaussian", "orthogonal", "eva")  # these do not change the base's weights


@dataclass(frozen=True)
class LoraConfig:
    """Rank and alpha of a LoRA adapter by module: its merged weight is `W + scale * B A` (arXiv 2106.09685)."""

    rank: float
    alpha: float
    rank_pattern: Mapping[str, float]
    alpha_pattern: Mapping[str, float]
    rank_stabilized: bool
    tied: bool

    def rank_of(self, module: str) -> float:
        """Return the rank of a module."""
        return _pattern_value(self.rank_pattern, module, self.rank)

    def scale(self, module: str) -> float:
        """Return the factor of `B A`: alpha / r, or alpha / sqrt(r) if rank-stabilized (rsLoRA, arXiv 2312.03732)."""
        rank = self.rank_of(module)
        return _pattern_value(self.alpha_pattern, module, self.alpha) / (rank**0.5 if self.rank_stabilized else rank)


def lora_config(folder: Path, reference: str) -> LoraConfig:
    """Return the configuration of the LoRA adapter in a folder.

    Raises:
        UserError: the configuration is missing, is not one of LoRA, or has a setting that is not supported.
    """
    config = read_adapter_config(folder, reference)
    faults = Faults(f"model '{reference}': {folder / ADAPTER_CONFIG}")
    if config.get("peft_type") != "LORA":
        faults.add("peft_type", f"must be LORA, but is {config.get('peft_type')}; {MERGE_IT}")
        faults.raise_if_any()
    if config.get("bias", "none") != "none":
        faults.add("bias", f"must be none, but is {config['bias']}: biases were trained too; {MERGE_IT}")
    if config.get("init_lora_weights") not in PLAIN_STARTS:
        faults.add(
            "init_lora_weights",
            f"is {config['init_lora_weights']}, which changes the base's weights too; save the adapter with "
            "path_initial_model_for_weight_conversion, which converts it to plain LoRA",
        )
    for key, value in config.items():
        if key not in KNOWN and value:
            faults.add(key, f"{REASONS.get(key, 'this setting is unknown')}, which is not supported; {MERGE_IT}")
    numbers = _numbers(config, faults)
    faults.raise_if_any()
    return numbers


def _numbers(config: Mapping[str, Any], faults: Faults) -> LoraConfig:
    def number(value: object, place: str) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            return value
        faults.add(place, f"must be a number above 0, but is {value!r}")
        return 1

    def pattern(key: str) -> dict[str, float]:
        values = config.get(key) or {}
        if not isinstance(values, dict):
            faults.add(key, f"must be a mapping from module names to numbers, but is {values!r}")
            return {}
        for name in values:
            try:
                re.compile(name)
            except re.error as error:
                faults.add(f"{key}.{name}", f"is not a regular expression: {error}")
        return {name: number(value, f"{key}.{name}") for name, value in values.items()}

    return LoraConfig(
        rank=number(config.get("r"), "r"),
        alpha=number(config.get("lora_alpha"), "lora_alpha"),
        rank_pattern=pattern("rank_pattern"),
        alpha_pattern=pattern("alpha_pattern"),
        rank_stabilized=bool(config.get("use_rslora")),
        tied=bool(config.get("ensure_weight_tying")),
    )


def _pattern_value(patterns: Mapping[str, float], module: str, default: float) -> float:
    """Return the value of the first pattern that matches the end of a module's name, as PEFT does."""
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), default)

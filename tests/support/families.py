"""Tiny configurations of the families that are tested, each with its peculiar features switched on.

The kinds of layers alternate, some layers are dense and others of experts, some slide and others do not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_models import BOS_ID, EOS_ID, PAD_ID, write_model
from transformers import AutoConfig, PreTrainedConfig

VOCAB, LAYERS, HIDDEN = 48, 4, 32
PLAIN = {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": PAD_ID,
    "bos_token_id": BOS_ID,
    "eos_token_id": EOS_ID,
    "dtype": "float32",
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
SLIDING = ["sliding_attention", "full_attention"] * 2

# The settings of each family's configuration besides PLAIN.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "mistral": {"sliding_window": 8},
    "qwen2": {"tie_word_embeddings": True, "use_sliding_window": True, "max_window_layers": 2, "sliding_window": 8},
    "qwen3": {"head_dim": 8, "tie_word_embeddings": True},
    "gemma2": {"head_dim": 8, "sliding_window": 8, "layer_types": SLIDING},
    "gemma3_text": {"head_dim": 8, "sliding_window": 8, "layer_types": SLIDING},
    "phi3": {},
    "gpt2": {"n_embd": HIDDEN, "n_inner": 64, "n_layer": LAYERS, "n_head": 4, "n_positions": 256},
    "gpt_neox": {},
    "olmo2": {},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {**EXPERTS, "head_dim": 8, "mlp_only_layers": [1]},
    "deepseek_v3": {
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "num_key_value_heads": 4,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4,
        "v_head_dim": 8,
    },
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "sliding_window": 8},
    "qwen3_next": {
        **EXPERTS,
        "shared_expert_intermediate_size": 16,
        "head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"] * 2,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
    "jamba": {
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "mamba_d_state": 4,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "conv_L_cache": 3, "block_ff_dim": 64},
}


def family_config(family: str, **overrides: Any) -> PreTrainedConfig:
    """Return the tiny configuration of a family; `overrides` use the family's keys."""
    plain = {**PLAIN}
    if family == "gpt2":
        plain = {key: PLAIN[key] for key in ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "dtype")}
    return AutoConfig.for_model(family, **{**plain, **FAMILIES[family], **overrides})


def write_models(folder: Path, family: str, *, shards: int = 1, **overrides: Any) -> None:
    """Write `base` and its fine-tunes `a` and `b` of a family."""
    config = family_config(family, **overrides)
    write_model(folder / "base", config=config, seed=0, shards=shards)
    for seed, name in enumerate("ab", start=1):
        write_model(folder / name, config=config, seed=seed, base_seed=0, shards=shards)

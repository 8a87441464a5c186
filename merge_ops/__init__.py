"""Merge recipes, checkpoints and merge methods, and merging itself. Independent of searching and scoring.

Importing this package imports no torch, which takes a second: recipes and the declarations of methods need none.
What does is imported at its first use.
"""

import importlib
from typing import TYPE_CHECKING

from .checkpoints.find_model import absolute_reference, check_reference
from .methods import METHODS, Base, MergeMethod, Parameter, Range, Scope, get_method
from .output.output_folder import check_output_folder
from .recipes.blocks import Rule, Setting, Slice, Source
from .recipes.hints import check_kind, without_old_prefix
from .recipes.multi_document import load_yaml
from .recipes.reader import RECIPE_DTYPES, RecipeWarning, parse_recipe, read_recipe, recipe_from_document
from .recipes.recipe import Recipe
from .recipes.references import ModelPath, ModelReference
from .recipes.tokenizer_section import TokenizerSection, TokenRule

if TYPE_CHECKING:
    from .architectures.cache import cache_folder, write_cached
    from .bank.model_bank import ModelBank
    from .bank.pinned_memory import pinned_bytes
    from .bank.residency import Residency
    from .checkpoints.checkpoint import Checkpoint
    from .checkpoints.checkpoint_warning import CheckpointWarning
    from .checkpoints.tokenizer_files import load_tokenizer
    from .checkpoints.weights_digest import WeightsDigest
    from .executors.dispatch import executor_name, kernel_report
    from .live.device_map import Places, places_of
    from .live.live_model import LiveModel
    from .live.weight_derivative import NoWeightDerivativeError
    from .live.weight_gradient import WeightGradient
    from .merging.host_streaming import buffer_bytes
    from .merging.merge_tensors import MergeError
    from .merging.plan_recipe import materialize, output_tokenizer, plan_merge, same_tokens
    from .output.finite_check import NonfiniteWarning
    from .output.write_checkpoint import DEFAULT_SHARD_SIZE, Written, write_merge
    from .planning.compatibility import check_vocabulary
    from .planning.merge_plan import MergePlan
    from .planning.output_config import output_dtype
    from .planning.same_weights import weights_key
    from .planning.unused_filters import unmatched_filter
    from .vocabulary.chat_template import output_template
    from .vocabulary.output_vocabulary import VocabularyWarning

_LAZY = {
    "cache_folder": "architectures.cache",
    "write_cached": "architectures.cache",
    "ModelBank": "bank.model_bank",
    "pinned_bytes": "bank.pinned_memory",
    "Residency": "bank.residency",
    "Checkpoint": "checkpoints.checkpoint",
    "CheckpointWarning": "checkpoints.checkpoint_warning",
    "load_tokenizer": "checkpoints.tokenizer_files",
    "WeightsDigest": "checkpoints.weights_digest",
    "executor_name": "executors.dispatch",
    "kernel_report": "executors.dispatch",
    "Places": "live.device_map",
    "places_of": "live.device_map",
    "LiveModel": "live.live_model",
    "NoWeightDerivativeError": "live.weight_derivative",
    "WeightGradient": "live.weight_gradient",
    "buffer_bytes": "merging.host_streaming",
    "MergeError": "merging.merge_tensors",
    "materialize": "merging.plan_recipe",
    "output_tokenizer": "merging.plan_recipe",
    "plan_merge": "merging.plan_recipe",
    "same_tokens": "merging.plan_recipe",
    "NonfiniteWarning": "output.finite_check",
    "DEFAULT_SHARD_SIZE": "output.write_checkpoint",
    "Written": "output.write_checkpoint",
    "write_merge": "output.write_checkpoint",
    "check_vocabulary": "planning.compatibility",
    "MergePlan": "planning.merge_plan",
    "output_dtype": "planning.output_config",
    "weights_key": "planning.same_weights",
    "unmatched_filter": "planning.unused_filters",
    "output_template": "vocabulary.chat_template",
    "VocabularyWarning": "vocabulary.output_vocabulary",
}

__all__ = [
    "DEFAULT_SHARD_SIZE",
    "METHODS",
    "RECIPE_DTYPES",
    "Base",
    "Checkpoint",
    "CheckpointWarning",
    "LiveModel",
    "MergeError",
    "MergeMethod",
    "MergePlan",
    "ModelBank",
    "ModelPath",
    "ModelReference",
    "NoWeightDerivativeError",
    "NonfiniteWarning",
    "Parameter",
    "Places",
    "Range",
    "Recipe",
    "RecipeWarning",
    "Residency",
    "Rule",
    "Scope",
    "Setting",
    "Slice",
    "Source",
    "TokenRule",
    "TokenizerSection",
    "VocabularyWarning",
    "WeightGradient",
    "WeightsDigest",
    "Written",
    "absolute_reference",
    "buffer_bytes",
    "cache_folder",
    "check_kind",
    "check_output_folder",
    "check_reference",
    "check_vocabulary",
    "executor_name",
    "get_method",
    "kernel_report",
    "load_tokenizer",
    "load_yaml",
    "materialize",
    "output_dtype",
    "output_template",
    "output_tokenizer",
    "parse_recipe",
    "pinned_bytes",
    "places_of",
    "plan_merge",
    "read_recipe",
    "recipe_from_document",
    "same_tokens",
    "unmatched_filter",
    "weights_key",
    "without_old_prefix",
    "write_cached",
    "write_merge",
]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)

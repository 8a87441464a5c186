"""Merge recipes, checkpoints and merge methods, and merging itself. Independent of searching and scoring."""

from typing import TYPE_CHECKING

from .architectures.cache import cache_folder
from .bank.model_bank import ModelBank
from .bank.pinned_memory import pinned_bytes
from .bank.residency import Residency
from .checkpoints.checkpoint import Checkpoint
from .checkpoints.find_model import absolute_reference
from .checkpoints.source import CheckpointWarning
from .checkpoints.tokenizer_files import load_tokenizer
from .checkpoints.weights_digest import WeightsDigest
from .executors.dispatch import executor_name, kernel_report
from .merging.host_streaming import buffer_bytes
from .merging.merge_tensors import MergeError
from .merging.plan_recipe import materialize, output_tokenizer, plan_merge, same_tokens
from .methods import METHODS, Base, MergeMethod, Parameter, Range, Scope, get_method
from .output.finite_check import NonfiniteWarning
from .output.write_checkpoint import DEFAULT_SHARD_SIZE, Written, write_merge
from .planning.compatibility import check_vocabulary
from .planning.merge_plan import MergePlan
from .planning.output_config import output_dtype
from .planning.same_weights import weights_key
from .planning.unused_filters import unmatched_filter
from .recipes.blocks import Rule, Setting, Slice, Source
from .recipes.hints import check_kind, without_old_prefix
from .recipes.multi_document import load_yaml
from .recipes.reader import RECIPE_DTYPES, RecipeWarning, parse_recipe, read_recipe, recipe_from_document
from .recipes.recipe import Recipe
from .recipes.references import ModelPath, ModelReference
from .recipes.tokenizer_section import TokenizerSection, TokenRule
from .vocabulary.output_vocabulary import VocabularyWarning

if TYPE_CHECKING:
    from .live.device_map import Places, places_of
    from .live.live_model import LiveModel
    from .live.weight_derivative import NoWeightDerivativeError
    from .live.weight_gradient import WeightGradient

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
    "check_vocabulary",
    "executor_name",
    "get_method",
    "kernel_report",
    "load_tokenizer",
    "load_yaml",
    "materialize",
    "output_dtype",
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
    "write_merge",
]


def __getattr__(name: str) -> object:
    # Live models import transformers' model classes, which takes seconds; a merge to disk does not need them.
    if name == "LiveModel":
        from .live.live_model import LiveModel

        return LiveModel
    if name in ("Places", "places_of"):
        from .live import device_map

        return getattr(device_map, name)
    if name == "WeightGradient":
        from .live.weight_gradient import WeightGradient

        return WeightGradient
    if name == "NoWeightDerivativeError":
        from .live.weight_derivative import NoWeightDerivativeError

        return NoWeightDerivativeError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

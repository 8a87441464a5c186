"""Recipes, checkpoints, merge methods, materializing. Knows nothing of search or scores."""

from typing import TYPE_CHECKING

from .bank.model_bank import ModelBank
from .checkpoints.checkpoint import Checkpoint, CheckpointWarning
from .checkpoints.find_model import absolute_reference, resolve_reference
from .checkpoints.weights_digest import WeightsDigest
from .merging.merge_tensors import MergeError
from .merging.plan_recipe import materialize, output_tokenizer, plan_merge, same_tokens, tokenizer_folder
from .methods import METHODS, MergeMethod, Parameter, Range, Scope, get_method
from .output.finite_check import NonfiniteWarning
from .output.write_checkpoint import Written, write_merge
from .planning.merge_plan import MergePlan
from .recipes.blocks import Rule, Setting, Slice, Source
from .recipes.multi_document import load_yaml
from .recipes.reader import RecipeWarning, parse_recipe, read_recipe, recipe_from_document
from .recipes.recipe import Recipe
from .recipes.references import ModelPath, ModelReference
from .recipes.tokenizer_section import TokenizerSection, TokenRule
from .vocabulary.load_tokenizer import load_tokenizer
from .vocabulary.output_vocabulary import VocabularyWarning

if TYPE_CHECKING:
    from .live.live_model import LiveModel
    from .live.weight_derivative import NoWeightDerivativeError
    from .live.weight_gradient import WeightGradient

__all__ = [
    "METHODS",
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
    "Range",
    "Recipe",
    "RecipeWarning",
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
    "get_method",
    "load_tokenizer",
    "load_yaml",
    "materialize",
    "output_tokenizer",
    "parse_recipe",
    "plan_merge",
    "read_recipe",
    "recipe_from_document",
    "resolve_reference",
    "same_tokens",
    "tokenizer_folder",
    "write_merge",
]


def __getattr__(name: str) -> object:
    # Live models bring transformers' models with them, which take seconds to import; a merge to disk needs none.
    if name == "LiveModel":
        from .live.live_model import LiveModel

        return LiveModel
    if name == "WeightGradient":
        from .live.weight_gradient import WeightGradient

        return WeightGradient
    if name == "NoWeightDerivativeError":
        from .live.weight_derivative import NoWeightDerivativeError

        return NoWeightDerivativeError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The whole-recipe cases: which models stand behind data/recipes/*.yaml.

The YAML files are written by hand; make_golden.py adds each one's result beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Small sizes keep the stored results small.
SIZES: dict[str, dict[str, Any]] = {
    "llama": {"layers": 4, "intermediate_size": 40},
    "qwen2": {"layers": 2, "intermediate_size": 40},
    "gpt2": {"layers": 2, "n_inner": 40, "n_positions": 24},
    "mixtral": {"layers": 2, "intermediate_size": 24, "num_local_experts": 3},
}
DELTA = 0.3  # fine-tunes far enough from their base (cosine 0.958) that slerp is no lerp and signs conflict


@dataclass(frozen=True)
class RecipeSpec:
    """One recipe on the tiny checkpoints `base`, `a`, `b`, `c`.

    `densities` are what each model's resolve to, for the check that no magnitude cut falls on a tie. `per_tensor`:
    mergekit merges the checkpoint's tensors name by name, where mergekit-yaml would fuse them first. `own`: further
    arguments of single models; with them the output's vocabulary is stored too. `origin`: the model whose tokens keep
    their ids, None where mergekit's choice of it is by chance.
    """

    name: str
    note: str
    family: str = "llama"
    refs: tuple[str, ...] = ("base", "a", "b", "c")
    exact: bool = True
    densities: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    base_seed: int = 0
    per_tensor: bool = False
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    origin: str | None = None

    @property
    def folder(self) -> str:
        """Name the folder of the source models; recipes that share it share their models."""
        return f"{self.family}-{self.base_seed}" + ("-vocabularies" if self.own else "")

    def models(self) -> dict[str, Mapping[str, Any]]:
        """Return each reference's arguments of `write_model`, the folder left out."""
        arguments: dict[str, Mapping[str, Any]] = {}
        for ref in self.refs:
            tuned = {} if ref == "base" else {"base_seed": self.base_seed, "delta": DELTA}
            seed = self.base_seed + ("base", "a", "b", "c").index(ref)
            arguments[ref] = {
                "family": self.family,
                "seed": seed,
                **tuned,
                **SIZES[self.family],
                **self.own.get(ref, {}),
            }
        return arguments


RECIPES = (
    RecipeSpec("linear_normalized", "weights sum to 1.2 and are normalized by default; no base", refs=("a", "b", "c")),
    RecipeSpec("linear_unnormalized", "negative weight, a gradient of three over four layers", refs=("a", "b")),
    RecipeSpec("linear_base_listed", "the base is an ordinary input of linear", refs=("base", "a", "b")),
    RecipeSpec(
        "linear_two_slices",
        "six layers; embeddings from the first slice, final norm and head from the last; sources shifted",
        refs=("a", "b", "c"),
    ),
    RecipeSpec("linear_out_bfloat16", "float32 arithmetic, one cast at the end", refs=("base", "a", "b")),
    RecipeSpec(
        "linear_tokenizer_base",
        "equal vocabularies, so the tokenizer section changes no number",
        refs=("base", "a"),
    ),
    RecipeSpec("slerp_gradients", "the model card classic: five knots over four layers, by filter", refs=("base", "a")),
    RecipeSpec(
        "slerp_base_second",
        "t counts from base_model whatever the order; non-layer tensors take the first knot",
        refs=("a", "b"),
    ),
    RecipeSpec("task_arithmetic_slices", "other models and weights in each slice, one source shifted by a layer"),
    RecipeSpec(
        "task_arithmetic_negative",
        "base_model not listed: appended by mergekit, its weight not needed",
        refs=("base", "a", "b"),
    ),
    RecipeSpec(
        "ties_gradients",
        "density and weight gradients and a weight by filter; int8_mask has no effect",
        densities={"a": (1.0, 0.8, 0.5, 0.1), "b": (0.5,), "c": (0.33,)},
    ),
    RecipeSpec(
        "ties_rescale_lambda",
        "L1 rescale, no normalize, lambda",
        refs=("base", "a", "b"),
        densities={"a": (0.4,), "b": (0.25,)},
    ),
    RecipeSpec("dare_ties_full", "density 1 draws no mask"),
    RecipeSpec("dare_linear_full", "density 1 draws no mask"),
    RecipeSpec("passthrough_stack", "five layers; the final norm and head are those of b", refs=("a", "b")),
    RecipeSpec(
        "passthrough_empty_slices",
        "slices of no layers: the embeddings of b, the layers of a, the final norm and head of c",
        refs=("a", "b", "c"),
    ),
    RecipeSpec(
        "linear_empty_slices",
        "slices of no layers with two sources each, with weights and a gradient",
        refs=("a", "b", "c"),
    ),
    RecipeSpec("passthrough_scale", "repeated layers whose output projections are zero", refs=("a",)),
    RecipeSpec(
        "precedence",
        "weight at source, slice and top; lambda at slice and top, and at a source where it counts for nothing",
        refs=("base", "a", "b"),
    ),
    RecipeSpec(
        "filter_fallthrough",
        "filters that match only some tensors; the rest falls to the slice, then to the top",
        refs=("a", "b"),
    ),
    RecipeSpec(
        "ties_gpt2",
        "other names, Conv1D layout, biases, tied head",
        family="gpt2",
        densities={"a": (0.9,), "b": (0.5,), "c": (0.3,)},
    ),
    RecipeSpec(
        "ties_qwen2",
        "attention biases, tied head",
        family="qwen2",
        densities={"a": (0.9,), "b": (0.5,), "c": (0.3,)},
        base_seed=10,
    ),
    RecipeSpec(
        "ties_mixtral",
        "one tensor per expert, each trimmed by itself (mergekit-yaml fuses a layer's experts and trims across them)",
        family="mixtral",
        densities={"a": (0.9,), "b": (0.5,), "c": (0.3,)},
        base_seed=10,
        per_tensor=True,
    ),
    RecipeSpec(
        "ties_mixtral_full",
        "nothing trimmed, so fused experts give the same numbers; stored split, by checkpoint name",
        family="mixtral",
        base_seed=10,
    ),
    RecipeSpec(
        "task_arithmetic_bfloat16",
        "mergekit computes in bfloat16, weights too",
        refs=("base", "a", "b"),
        exact=False,
    ),
)

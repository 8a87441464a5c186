"""Merge two fine-tunes in Python: write a recipe, try it in memory, save what you like.

python examples/merge_in_python.py BASE MODEL_A MODEL_B OUT
"""

import sys
from pathlib import Path

from mergesmith.merge_ops import LiveModel, ModelBank, parse_recipe, write_merge

RECIPE = """
merge_method: ties
base_model: {base}
models:
  - model: {a}
    parameters: {{weight: 0.8, density: 0.5}}
  - model: {b}
    parameters: {{weight: {weight}, density: 0.5}}
parameters: {{normalize: false}}
dtype: float32
"""


def main(base: str, a: str, b: str, out: str) -> None:
    """Try three weights in one live model, then write the last one."""
    recipes = [parse_recipe(RECIPE.format(base=base, a=a, b=b, weight=weight)) for weight in (0.2, 0.5, 0.8)]
    bank = ModelBank(recipes[0].references())  # opens the checkpoints once
    live = LiveModel(bank)  # builds the model once
    for recipe in recipes:
        live.load(recipe)  # writes the merged tensors into it
        norm = sum(float(p.float().pow(2).sum()) for p in live.model.parameters()) ** 0.5
        print(f"recipe {recipe.digest[:12]}: {live.model.num_parameters():,} parameters, norm {norm:.3f}")
    written = write_merge(recipes[-1], bank, Path(out))
    print(f"wrote {written.folder}, weights digest {written.digest[:12]}")


if __name__ == "__main__":
    main(*sys.argv[1:])

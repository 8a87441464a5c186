"""The model card of a merged checkpoint."""

from __future__ import annotations

import yaml

from ..bank.model_bank import ModelBank
from ..checkpoints.find_model import HUB_ID
from ..planning.merge_plan import MergePlan


def model_card(plan: MergePlan, bank: ModelBank, digest: str) -> str:
    """Return the text of README.md: metadata for the hub, sources, the digest of the weights, and the recipe."""
    recipe = plan.asked
    models = [ref for ref in recipe.references() if ref in bank.references]
    parts = dict.fromkeys(part.partition("@")[0] for ref in models for part in ref.split("+"))
    on_hub = [part for part in parts if HUB_ID.fullmatch(part)]
    meta = {"library_name": "transformers", "tags": ["merge", "mergekit", "mergesmith"]}
    if on_hub:
        meta["base_model"] = on_hub
    base = "" if recipe.base_model is None else f" over the base model `{recipe.base_model}`"
    lines = [
        "---",
        yaml.safe_dump(meta, sort_keys=False).strip(),
        "---",
        f"# {plan.method.name} merge",
        "",
        f"Made with mergesmith by the method **{plan.method.name}**{base}.",
        plan.method.summary,
        f"Paper: {plan.method.paper}.",
        "",
        "## Models merged",
        "",
        *(f"* `{ref}`" for ref in models),
        "",
        f"Digest of the merged weights (SHA-256): `{digest}`",
        "",
        "## Recipe",
        "",
        "```yaml",
        recipe.to_yaml().strip(),
        "```",
        "",
    ]
    return "\n".join(lines)

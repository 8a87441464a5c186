"""Records for reproducing a merge: portable references, a name-independent recipe digest, versions and digests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...merge_ops import ModelBank, Recipe, WeightsDigest, absolute_reference, executor_name, materialize
from ..session.devices import device_name
from ..session.versions import package_version

PACKAGES = ("mergesmith", "torch", "transformers", "lm_eval")


def absolute_names(recipe: Recipe, roots: Sequence[Path]) -> dict[str, str]:
    """Return reference -> the reference with absolute paths, for local folders; hub ids are left out."""
    names = {reference: absolute_reference(reference, roots) for reference in recipe.references()}
    return {reference: absolute for reference, absolute in names.items() if absolute != reference}


def lasting_names(recipe: Recipe, bank: ModelBank) -> dict[str, str]:
    """Return reference -> a reference that stays valid: absolute paths, or a hub id with its commit."""
    names = absolute_names(recipe, bank.roots)
    for reference in recipe.references():
        snapshot = bank[reference].folder  # .../models--owner--name/snapshots/COMMIT
        if reference not in names and "+" not in reference and snapshot.parent.name == "snapshots":
            names[reference] = f"{reference.partition('@')[0]}@{snapshot.name}"
    return names


def anonymous_digest(recipe: Recipe) -> str:
    """Return the digest of the recipe with its models numbered, which does not change when the models are moved."""
    return recipe.renamed({reference: f"model {i}" for i, reference in enumerate(recipe.references())}).digest


def provenance(recipe: Recipe, bank: ModelBank) -> dict[str, Any]:
    """Merge a recipe and return what determines its bits: versions, device, digests of sources and result."""
    digest = WeightsDigest.of(materialize(recipe, bank))
    return {
        "versions": {name: package_version(name) for name in PACKAGES},
        "executor": executor_name(bank.device.type),
        "device": device_name(bank.device),
        "weights_digest": digest.hex,
        "sources": {
            ref: {"weights_digest": bank[ref].weights_digest, "tokenizer_digest": bank[ref].tokenizer_digest}
            for ref in recipe.references()
        },
    }

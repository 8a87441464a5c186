"""A recipe as it leaves a run: absolute references, and the facts by which it can be checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..evaluators import Part
from ..merge_ops import ModelBank, Recipe, WeightsDigest, absolute_reference, get_method, materialize
from .device import device_name
from .environment import package_version
from .objective import Objective, scores_of
from .rundir import RunDir
from .session import Session
from .trial import Trial, scores_document
from .verdict import Verdict

PACKAGES = ("mergesmith", "torch", "transformers", "lm_eval")
RANDOM_NOTE = (
    "This method drops random elements. mergekit draws other masks, so the scores hold for the weights that mergesmith "
    "makes of this recipe."
)


def absolute_names(recipe: Recipe, roots: Sequence[Path]) -> dict[str, str]:
    """References with local folders in them, spelled by absolute paths; those of hub ids alone are left out."""
    names = {reference: absolute_reference(reference, roots) for reference in recipe.references()}
    return {reference: absolute for reference, absolute in names.items() if absolute != reference}


def lasting_names(recipe: Recipe, bank: ModelBank) -> dict[str, str]:
    """For each reference one that means the same later: an absolute path, or a hub id with its commit."""
    names = absolute_names(recipe, bank.roots)
    for reference in recipe.references():
        snapshot = bank[reference].folder  # .../models--owner--name/snapshots/COMMIT
        if reference not in names and "+" not in reference and snapshot.parent.name == "snapshots":
            names[reference] = f"{reference.partition('@')[0]}@{snapshot.name}"
    return names


def present_recipe(recipe: Recipe, rundir: RunDir) -> Recipe:
    """A recipe that left a run, with its models named by where they are now, should they have moved with the run."""
    names = {reference: rundir.here(reference) for reference in recipe.references()}
    facts = dict(recipe.facts)
    if "sources" in facts:
        facts["sources"] = {names.get(ref, ref): digests for ref, digests in facts["sources"].items()}
    return replace(recipe.renamed(names), facts=facts)


def anonymous_digest(recipe: Recipe) -> str:
    """The recipe's digest with its models numbered: the same after they have moved."""
    return recipe.renamed({reference: f"model {i}" for i, reference in enumerate(recipe.references())}).digest


def provenance(session: Session, recipe: Recipe) -> dict[str, Any]:
    """What decides the bits of a merge: versions, device, digests of sources and result."""
    bank = session.bank
    digest = WeightsDigest.of(materialize(recipe, bank))
    return {
        "versions": {name: package_version(name) for name in PACKAGES},
        "executor": "torch",
        "device": device_name(bank.device),
        "weights_digest": digest.hex,
        "sources": {
            ref: {"weights_digest": bank[ref].weights_digest, "tokenizer_digest": bank[ref].tokenizer_digest}
            for ref in recipe.references()
        },
    }


def best_recipe(
    verdict: Verdict, session: Session, objective: Objective, rundir: RunDir, facts: dict[str, Any]
) -> Recipe:
    """The winner with its facts; `facts` is its `provenance`."""
    trial = verdict.winner
    names = lasting_names(trial.recipe, session.bank)
    facts["sources"] = {names.get(ref, ref): digests for ref, digests in facts["sources"].items()}
    facts["recipe_digest"] = anonymous_digest(trial.recipe)
    facts["tasks"] = session.suite.digests()
    facts["scores"] = {part: _scores(trial, part, objective, rundir) for part in ("search", "select", "report")}
    facts["verdict"] = [comparison.sentence for comparison in verdict.comparisons]
    facts["found_by"] = {"run": str(rundir.path.resolve()), "trial": trial.number, "name": trial.label}
    if get_method(trial.recipe.merge_method).random:
        facts["note"] = RANDOM_NOTE
    return replace(trial.recipe.renamed(names), facts=facts)


def _scores(trial: Trial, part: Part, objective: Objective, rundir: RunDir) -> Mapping[str, Any]:
    items = rundir.items(trial.number, part)
    assert items is not None, "Should not reach."
    scores = scores_of(objective.entries, items)
    return {
        "objective": objective.value(scores),
        "tasks": scores_document(scores),
    }

"""A recipe as it leaves a run: absolute references, and the facts by which it can be checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from ..evaluators import Part
from ..merge_ops import ModelBank, Recipe, WeightsDigest, absolute_reference, get_method, materialize
from .objective import Objective, scores_of
from .rundir import RunDir
from .session import Session
from .trial import Trial
from .verdict import Verdict

PACKAGES = ("mergesmith", "torch", "transformers", "lm_eval")
RANDOM_NOTE = (
    "This method drops random elements. mergekit draws other masks, so the scores hold for the weights that mergesmith "
    "makes of this recipe."
)


def absolute_names(recipe: Recipe, bank: ModelBank) -> dict[str, str]:
    """References with local folders in them, spelled by absolute paths; those of hub ids alone are left out."""
    names = {reference: absolute_reference(reference, bank.roots) for reference in recipe.references()}
    return {reference: absolute for reference, absolute in names.items() if absolute != reference}


def provenance(recipe: Recipe, bank: ModelBank) -> dict[str, Any]:
    """What decides the bits of a merge: versions, device, digests of sources and result."""
    digest = WeightsDigest()
    for _ in digest.watch(materialize(recipe, bank)):
        pass
    device = torch.cuda.get_device_name(bank.device) if bank.device.type == "cuda" else bank.device.type
    return {
        "versions": {name: package_version(name) for name in PACKAGES},
        "executor": "torch",
        "device": device,
        "weights_digest": digest.hex,
        "sources": {
            ref: {"weights_digest": bank[ref].weights_digest, "tokenizer_digest": bank[ref].tokenizer_digest}
            for ref in recipe.references()
        },
    }


def best_recipe(verdict: Verdict, session: Session, objective: Objective, rundir: RunDir) -> Recipe:
    """The winner with its facts."""
    trial = verdict.winner
    names = absolute_names(trial.recipe, session.bank)
    facts = provenance(trial.recipe, session.bank)
    facts["sources"] = {names.get(ref, ref): digests for ref, digests in facts["sources"].items()}
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
        "tasks": {name: asdict(score) for name, score in scores.items()},
    }


def package_version(name: str) -> str | None:
    """The installed version of a package; None in a bare checkout."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None

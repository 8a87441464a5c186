"""The winner's recipe with the facts that `mergesmith verify` checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...evaluators import Part
from ...merge_ops import Recipe, get_method, output_dtype, plan_merge
from ..run_folder.provenance import anonymous_digest, lasting_names
from ..run_folder.run_folder import RunFolder
from ..run_folder.trial import Trial, scores_document
from ..session.session import Session
from .objective import Objective, scores_of
from .verdict.records import Verdict

CHAT_DATE = "chat_date"  # the day that the chat template printed
SCORING_DTYPE = "scoring_dtype"  # the dtype in which the weights were held while they were scored
RANDOM_NOTE = (
    "This method drops random elements. mergekit draws other masks, so the scores hold for the weights that mergesmith "
    "computes from this recipe."
)


def best_recipe(
    verdict: Verdict, session: Session, objective: Objective, run_folder: RunFolder, facts: dict[str, Any]
) -> Recipe:
    """Return the winner's recipe with its facts: `facts` (its `provenance`) plus scores, verdict and origin."""
    trial = verdict.winner
    names = lasting_names(trial.recipe, session.bank)
    facts["sources"] = {names.get(ref, ref): digests for ref, digests in facts["sources"].items()}
    facts["recipe_digest"] = anonymous_digest(trial.recipe)
    facts["tasks"] = session.suite.digests()
    if (day := session.config.chat.date) is not None:
        facts[CHAT_DATE] = day.isoformat()
    plan = plan_merge(trial.recipe, session.bank)
    facts[SCORING_DTYPE] = session.scoring_dtype.name or output_dtype(plan, session.bank)
    facts["scores"] = {part: _scores(trial, part, objective, run_folder) for part in ("search", "select", "report")}
    facts["verdict"] = [comparison.sentence for comparison in verdict.comparisons]
    if verdict.limits:
        facts["limits"] = [limit.sentence for limit in verdict.limits]
    facts["found_by"] = {"run": str(run_folder.path.resolve()), "trial": trial.number, "name": trial.label}
    if get_method(trial.recipe.merge_method).random:
        facts["note"] = RANDOM_NOTE
    return replace(trial.recipe.renamed(names), facts=facts)


def _scores(trial: Trial, part: Part, objective: Objective, run_folder: RunFolder) -> Mapping[str, Any]:
    items = run_folder.items(trial.number, part)
    assert items is not None, "Should not reach."
    scores = scores_of(objective.entries, items)
    return {
        "objective": objective.value(scores),
        "tasks": scores_document(scores),
    }

"""What each stage learnt and why it ended, in words: for the line that the search prints when a stage is over."""

from __future__ import annotations

from collections.abc import Callable

from ....search_spaces import METHOD
from ...proposal import StageEnd
from ..sampler import Observation, Proposal
from . import descent, line, soup, survey, transfer
from .history import History, best_of


def outcome(history: History, step: Callable[[History], Proposal | None]) -> StageEnd:
    """Return the end of the stage that `step` proposes for, which has nothing more to ask for."""
    name, describe = OUTCOMES[step]
    learnt, reason = describe(history)
    return StageEnd(name, reason, learnt)


def is_pending(history: History, step: Callable[[History], Proposal | None]) -> bool:
    """Whether proposals of the stage are being scored."""
    return history.waiting(OUTCOMES[step][0]) > 0


def _line(history: History) -> tuple[str, str]:
    arm = history.leading
    if arm is None or len(arm.models) < 2:
        return "", "skipped, no method weighs two models or more"
    return f"best total weight {soup.best_total(history, arm):g}", "every total was proposed"


def _soup(history: History) -> tuple[str, str]:
    arm = history.leading
    if arm is None or len(arm.models) < 3:
        return "", "skipped, a soup without one of the models takes three of them"
    if len(history.parents_by_score(arm.models)) < len(arm.models):
        return "", "skipped, not every model could be scored"
    best = _best(history, soup.NAME)
    kept = 0 if best is None else sum(weight > 0 for weight in arm.weights(best.params))
    return f"the best one has {kept} of {len(arm.models)} models" if kept else "", "every model was tried"


def _survey(history: History) -> tuple[str, str]:
    observed = history.of_stage(survey.NAME)
    if not observed:
        return "", "skipped, too few candidates with scores"
    if any(o.slopes is None for o in observed):
        return "", "the loss of the gold answers cannot be computed"
    reason = f"{len(observed)} candidates were compared"
    alike, pairs = survey.agreement(history)
    if not pairs:
        return "loss and metrics tell none of the candidates apart", reason
    return f"the loss ranks {alike} of {pairs} pairs as the metrics do", reason


def _descent(history: History, stage: str = descent.NAME) -> tuple[str, str]:
    probes = [o for o in history.of_stage(stage) if o.probe]
    candidates = [o for o in history.of_stage(stage) if not o.probe]
    if not probes:
        return "", "skipped, since the survey does not speak for the loss"
    if any(o.slopes is None or not o.slopes.by_dimension for o in probes):
        return "", "a step could not be computed"
    if len(candidates) == descent.MOST_ROUNDS:
        return "", f"{len(probes)} steps were taken"
    if len(probes) > descent.ROUND * len(candidates):
        return "", "the lowest loss was found"
    return "", f"the last {descent.ROUND} steps gained nothing"


def _in_depth(history: History) -> tuple[str, str]:
    arm = history.leading
    if arm is None or all(len(names) == 1 for names in arm.groups):
        return "", "skipped, every model has one weight"
    return _descent(history, descent.IN_DEPTH)


def _transfer(history: History) -> tuple[str, str]:
    best = _best(history, transfer.NAME)
    learnt = "" if best is None else f"best method {best.params[METHOD]}"
    if history.best() is None or not history.of_stage(transfer.NAME):
        return "", "skipped, no other method takes the weights"
    return learnt, "every method was tried" if len(history.of_stage(transfer.NAME)) < transfer.MOST else "enough tried"


def _best(history: History, stage: str) -> Observation | None:
    return best_of(o for o in history.scored if o.of_stage(stage))


OUTCOMES: dict[Callable[[History], Proposal | None], tuple[str, Callable[[History], tuple[str, str]]]] = {
    line.propose: (line.NAME, _line),
    soup.propose: (soup.NAME, _soup),
    survey.propose: (survey.NAME, _survey),
    descent.propose: (descent.NAME, _descent),
    descent.propose_in_depth: (descent.IN_DEPTH, _in_depth),
    transfer.propose: (transfer.NAME, _transfer),
}

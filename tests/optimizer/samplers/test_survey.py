"""The survey: when the loss of the gold answers is trusted to lead the search."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mergesmith.optimizer.samplers import Observation, Proposal, Slopes
from mergesmith.optimizer.samplers.arms import Arms
from mergesmith.optimizer.samplers.auto import survey
from mergesmith.optimizer.samplers.auto.history import History
from mergesmith.search_spaces import MergeIngredients, SearchSpace, SpaceConfig

SPACE = SearchSpace(
    SpaceConfig.model_validate({"methods": ["task_arithmetic"]}), MergeIngredients("./base", ("./a", "./b"), "float32")
)


def surveyed(scores: Sequence[float], losses: Sequence[float], *, error: float) -> History:
    """A history of candidates whose scores and losses are known, both with the same standard error."""
    history = History(SPACE, Arms(SPACE), 0)
    arm = history.leading
    assert arm is not None
    points = [arm.params([0.2 + 0.1 * i] * 2) for i in range(len(scores))]
    for params, score in zip(points, scores, strict=True):
        history.told.append(Observation(Proposal(params, "line"), score, estimate=score, stderr=error))
    for params, loss in zip(points, losses, strict=True):
        probe = Proposal(params, survey.NAME, probe="loss")
        history.told.append(Observation(probe, None, slopes=Slopes(loss, error, 100)))
    return history


@pytest.mark.parametrize(
    ("losses", "found", "trusted"),
    [
        ((0.5, 0.4, 0.3, 0.2, 0.1), (10, 10), True),
        ((0.1, 0.2, 0.3, 0.4, 0.5), (0, 10), False),
        ((0.5, 0.4, 0.3, 0.1, 0.2), (9, 10), True),
        ((0.3, 0.5, 0.1, 0.4, 0.2), (6, 10), False),
        ((0.3, 0.3, 0.3, 0.3, 0.3), (0, 0), True),  # says nothing: its candidates have the last word
    ],
)
def test_the_loss_has_to_rank_pairs_as_the_scores_do(
    losses: Sequence[float], found: tuple[int, int], trusted: bool
) -> None:
    history = surveyed((0.1, 0.2, 0.3, 0.4, 0.5), losses, error=0.01)
    assert survey.agreement(history) == found
    assert survey.trusted(history) is trusted


def test_pairs_within_noise_do_not_count() -> None:
    """Of five candidates one is much worse in both; the others are ranked in opposite orders, but within noise."""
    history = surveyed((0.10, 0.50, 0.51, 0.52, 0.53), (0.9, 0.30, 0.31, 0.32, 0.33), error=0.05)
    assert survey.agreement(history) == (4, 4)
    assert survey.trusted(history)


def test_too_few_candidates() -> None:
    assert not survey.trusted(surveyed((0.1, 0.2, 0.3), (0.5, 0.4, 0.3), error=0.01))

"""What a replay takes over from the record instead of repeating it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mergesmith.merge_ops import Recipe, Source
from mergesmith.optimizer.commands.replay import _alone, _schedule
from mergesmith.optimizer.config import parse_config
from mergesmith.optimizer.run_folder.trial import LostAttempt, Trial

KILLER = Recipe("passthrough", models=(Source("killer"),))
OTHER = Recipe("passthrough", models=(Source("other"),))
ATTEMPT = LostAttempt("w1", "here", "gone", 1.0, True)


def test_what_was_given_up_is_not_tried() -> None:
    """Nor is it where its recipe had cost its workers under another number: it would cost the replay its process."""
    trials = [
        Trial(0, KILLER, "failed", lost=(ATTEMPT, ATTEMPT)),
        Trial(1, KILLER, "failed", error="cost 2 workers and is not tried again"),
        Trial(2, OTHER, "failed", error="a tensor is NaN"),  # may fail again
        Trial(3, OTHER, "failed", worker="w2", lost=(ATTEMPT,)),
    ]
    lost = {"event": "lost", "number": 0, "recipe": KILLER.digest, "counts": True}
    assert set(_schedule(trials, [lost, lost]).given_up) == {0, 1}


def test_arithmetic_is_that_of_the_workers() -> None:
    document: dict[str, Any] = {"base_model": "a", "models": ["b"], "tasks": ["t"]}
    workers = {"pool": "ray", "cpus_per_worker": 3, "gpus_per_worker": 0}
    alone = _alone(parse_config({**document, "workers": workers}, where="search.yaml"), [], Path("out")).workers
    assert (alone.pool, alone.threads, alone.device) == ("local", 3, "cpu")
    alone = _alone(parse_config(document, where="search.yaml"), [], Path("out")).workers
    assert (alone.threads, alone.device) == (None, "auto")

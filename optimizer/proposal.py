"""The records that samplers, workers and the run folder exchange: proposals, results of probes, the end of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..search_spaces import Params


@dataclass(frozen=True)
class StageEnd:
    """A stage of a sampler that is over.

    Attributes:
        name: the stage.
        reason: why it ended, or why it was skipped.
        learnt: what its results say, in a few words; "" if nothing beyond its best score.
    """

    name: str
    reason: str
    learnt: str = ""


@dataclass(frozen=True)
class Proposal:
    """A point of the search space that a sampler asks to have scored or probed.

    Attributes:
        params: the point.
        stage: the stage that asks for it; empty for samplers without stages and for baselines.
        probe: empty for a candidate to score. A probe computes the loss of the gold answers ("loss") or its derivatives
            by the searched weights as well ("gradient"), but no score.
        offset: the first item of a probe; probes with different offsets see different items.
        ended: all stages that have nothing more to ask for.
    """

    params: Params
    stage: str = ""
    probe: Literal["", "loss", "gradient"] = ""
    offset: int = 0
    ended: tuple[StageEnd, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Stop:
    """A sampler's decision to end the search, because it expects to find nothing better.

    Attributes:
        reason: why, for the user.
        axes: the number of numeric dimensions that were searched.
    """

    reason: str
    axes: int
    ended: tuple[StageEnd, ...] = ()


@dataclass(frozen=True)
class Slopes:
    """The result of a probe.

    Attributes:
        loss: the mean loss of the gold answers, with the tasks weighted as in the objective.
        stderr: the standard error of the loss over items.
        items: the number of items.
        by_dimension: the derivative of the loss by every searched weight; empty for a probe of the loss alone.
        errors: the standard errors of the derivatives over items.
    """

    loss: float
    stderr: float
    items: int
    by_dimension: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)

"""The records that pass between samplers, workers and the run folder: proposals, results of probes, the end."""

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
    """A point to look at.

    Attributes:
        params: the point.
        stage: the stage of the search that asks for it; "" for samplers without stages and for baselines.
        probe: "" for a candidate to score; "loss" and "gradient" for the loss of the gold answers, which is no score.
        ended: stages that have nothing more to ask for, every time since they ended.
    """

    params: Params
    stage: str = ""
    probe: Literal["", "loss", "gradient"] = ""
    ended: tuple[StageEnd, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Stop:
    """There is nothing better to find: `reason` in words, and how many numbers the search could move."""

    reason: str
    axes: int
    ended: tuple[StageEnd, ...] = ()


@dataclass(frozen=True)
class Slopes:
    """The result of a probe.

    Attributes:
        loss: the mean loss of the gold answers, tasks weighted as in the objective; `stderr` over `items` items.
        by_dimension: its derivative by every weight that is searched; empty for a probe of the loss alone.
        errors: the standard errors of the derivatives over items.
    """

    loss: float
    stderr: float
    items: int
    by_dimension: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)

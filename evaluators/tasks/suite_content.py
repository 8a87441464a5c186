"""The data of a suite that are the same for all candidates, computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from lm_eval.api.task import ConfigurableTask

from ..config import EvaluationConfig, Part
from ..lm_eval_bridge.live_hflm import LiveLM
from ..records import TaskEntry
from .catalog import Catalog
from .common_prefix import common_prefix
from .documents import ids_in_part
from .fewshot import FewshotPool
from .metrics import Metric
from .python_objectives import PythonObjective
from .requests import Request, TaskItems


@dataclass(frozen=True)
class LeafTask:
    """The data of one lm-eval task that are the same for all candidates; `pool`: see `fewshot.py`."""

    task: ConfigurableTask
    items: TaskItems
    metric: Metric
    pool: FewshotPool | None
    requests: Mapping[int, tuple[Request, ...]]
    digest: str

    def all_requests(self) -> list[Request]:
        """Return the requests of all documents."""
        return [request for found in self.requests.values() for request in found]

    @cached_property
    def shared_prefix(self) -> tuple[int, ...]:
        """The tokens that all prompts of the task begin with, such as the same few-shot examples."""
        requests = self.all_requests()
        return common_prefix([r.pair[1] for r in requests if r.pair] or [r.prompt for r in requests if r.prompt])


@dataclass(frozen=True)
class SuiteContent:
    """The data of a Suite.

    Attributes:
        leaves: lm-eval task name -> its items and requests, in the order of the configuration.
        objectives: entry name -> Python objective.
        share_logits: see `LiveLM.score_pairs`; true if it is correct for all requests together.
    """

    config: EvaluationConfig
    entries: tuple[TaskEntry, ...]
    leaves: Mapping[str, LeafTask]
    objectives: Mapping[str, PythonObjective]
    catalog: Catalog | None
    lm: LiveLM
    share_logits: bool
    warnings: tuple[str, ...]

    def document_ids(self, leaf: str, part: Part) -> tuple[int, ...]:
        """Return the ids of a leaf's documents in one part, ascending."""
        return ids_in_part(self.leaves[leaf].items.digests, self.config.split, part)

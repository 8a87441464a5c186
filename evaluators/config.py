"""The parts of search.yaml that say what is scored: tasks, chat settings, and the split of the items."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Part = Literal["search", "select", "report"]
PARTS: tuple[Part, ...] = ("search", "select", "report")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskConfig(_Section):
    """One entry of `tasks:`; a bare string is a name with every other setting at its default.

    Attributes:
        name: an lm-eval task, group or tag, or, with `python`, a name of the user's own.
        python: `./file.py:function` or `package.module:function`, a Python objective.
        metric: one of the task's metrics. Unset: its only one, else acc, else exact_match, else the first listed.
        filter: one of the task's filters. Unset: the first.
        num_fewshot: overrides the task's own, except where the task fixes it to 0, as in lm-eval.
        limit: only the first `limit` documents of each task, as in lm-eval.
        weight: the entry's share in the objective, relative to the other entries' weights.
        higher_is_better: overrides the metric's own direction.
        max_drop: how far the entry may fall below the best parent, in the metric's unit.
    """

    name: str = Field(min_length=1)
    python: str | None = None
    metric: str | None = None
    filter: str | None = None
    num_fewshot: int | None = Field(default=None, ge=0)
    limit: int | None = Field(default=None, gt=0)
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    higher_is_better: bool | None = None
    max_drop: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _python_has_no_task_settings(self) -> TaskConfig:
        given = [key for key in ("metric", "filter", "num_fewshot", "limit") if getattr(self, key) is not None]
        if self.python is not None and given:
            raise ValueError(f"a Python objective has no {', '.join(given)}: remove it, or remove 'python'")
        return self


class ChatConfig(_Section):
    """How prompts become chats. The defaults are those of lm-eval's `simple_evaluate`."""

    apply_template: bool = False
    system: str | None = None
    fewshot_as_multiturn: bool = True


class SplitConfig(_Section):
    """Shares of the items that the search sees, that pick the winner, and that the report is about."""

    search: float = Field(default=0.6, gt=0)
    select: float = Field(default=0.2, gt=0)
    report: float = Field(default=0.2, gt=0)

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitConfig:
        total = self.search + self.select + self.report
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            raise ValueError(
                f"the shares must sum to 1, but {self.search} + {self.select} + {self.report} is {total:g}"
            )
        return self

"""The sections of search.yaml that describe the evaluation: tasks, chat settings, split and scoring."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from mergesmith.config_section import ConfigSection

Part = Literal["search", "select", "report"]
PARTS: tuple[Part, ...] = ("search", "select", "report")
ScorerChoice = Literal["auto", "packed", "rows", "graphs", "hf"]
ScoringDtypeChoice = Literal["auto", "float32", "bfloat16", "float16"]


def _share_or_count(value: Any) -> Any:
    """Return a limit: a share of the documents below 1, or a whole number of them, which may be written as a float.

    Raises:
        ValueError: it is neither.
    """
    if value is None:
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or value <= 0 or (value > 1 and value != int(value)):
        raise ValueError(
            "must be greater than 0: a number of documents such as 200, or a share of them below 1 such as 0.1"
        )
    return value if value < 1 else int(value)


Limit = Annotated[int | float | None, BeforeValidator(_share_or_count)]


def first_documents(limit: float | None, size: int) -> int:
    """Return how many of a task's `size` documents a limit leaves; a share is rounded up, as in lm-eval."""
    if limit is None:
        return size
    return min(size, math.ceil(size * limit) if limit < 1 else int(limit))


class TaskConfig(ConfigSection):
    """One entry of `tasks:`; a bare string is a name with every other setting at its default.

    Attributes:
        name: an lm-eval task, group or tag, or, with `python`, a name that the user chooses.
        python: `./file.py:function` or `package.module:function`, a Python objective.
        metric: one of the task's metrics, or `METRIC,FILTER` as in lm-eval's results. Unset: acc, else exact_match,
            else the first listed.
        filter: one of the task's filters. Unset: the first.
        num_fewshot: overrides the task's number, unless the task fixes it to 0, as in lm-eval.
        limit: only the first `limit` documents of each task, as in lm-eval; below 1, a share of them.
        weight: the entry's share in the objective, relative to the other entries' weights. 0 for a task that only has
            a limit, `max_drop`.
        higher_is_better: overrides the direction that the task gives for the metric.
        max_drop: how far the entry may fall below the best parent, in the metric's unit.
    """

    name: str = Field(min_length=1)
    python: str | None = None
    metric: str | None = None
    filter: str | None = None
    num_fewshot: int | None = Field(default=None, ge=0)
    limit: Limit = None
    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    higher_is_better: bool | None = None
    max_drop: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @model_validator(mode="before")
    @classmethod
    def _metric_with_filter(cls, data: Any) -> Any:
        """Accept lm-eval's `metric,filter`."""
        if not isinstance(data, dict) or not isinstance(data.get("metric"), str) or "," not in data["metric"]:
            return data
        metric, _, filter_name = (part.strip() for part in data["metric"].partition(","))
        if data.get("filter") not in (None, filter_name):
            raise ValueError(f"metric '{data['metric']}' names another filter than filter: {data['filter']}")
        return {**data, "metric": metric, "filter": filter_name}

    @field_validator("weight", mode="before")
    @classmethod
    def _not_negative(cls, value: Any) -> Any:
        if isinstance(value, (int, float)) and value < 0:
            raise ValueError(
                f"must be at least 0; a metric that is to be minimised is written weight: {-value:g} with "
                "higher_is_better: false (which metrics such as perplexity have by themselves)"
            )
        return value

    @model_validator(mode="after")
    def _has_an_effect(self) -> TaskConfig:
        if self.weight == 0 and self.max_drop is None:
            raise ValueError("with weight 0 it has no effect without max_drop: add max_drop, or remove the task")
        return self

    @model_validator(mode="after")
    def _python_has_no_task_settings(self) -> TaskConfig:
        given = [key for key in ("metric", "filter", "num_fewshot", "limit") if getattr(self, key) is not None]
        if self.python is not None and given:
            raise ValueError(f"a Python objective has no {', '.join(given)}: remove it, or remove 'python'")
        return self


class ChatConfig(ConfigSection):
    """Whether and how prompts are formatted as chats. The defaults are those of lm-eval's `simple_evaluate`.

    Attributes:
        apply_template: whether prompts are formatted by the tokenizer's chat template.
        system: the system prompt; rejected if the chat template leaves it out.
        fewshot_as_multiturn: whether few-shot examples become turns of the chat.
        date: the day that a template prints if it prints today's date. Unset, the day on which the run begins, which
            its search.yaml then records.
    """

    apply_template: bool = False
    system: str | None = None
    fewshot_as_multiturn: bool = True
    date: datetime.date | None = None


class SplitConfig(ConfigSection):
    """Shares of the items used to search, to select the winner among finalists, and to report its score."""

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


class ScoringConfig(ConfigSection):
    """How items are scored.

    Attributes:
        scorer: "auto" selects, for each task, the fastest scorer whose scores agree with lm-eval's on the base model
            and the models to merge.
        dtype: in which a candidate's weights are held while it is scored, after they were rounded to the dtype of the
            models. "auto" keeps that dtype, unless the device computes faster in float32.
        token_budget: tokens per batch, padding included; unset, as many as fit the device.
        batch_size: rows per batch of lm-eval's HFLM scorer.
        block_items: items in the first block of the search part, after which a candidate is first compared.
        max_length: positions per sequence; unset, the model's maximum.
    """

    scorer: ScorerChoice = "auto"
    dtype: ScoringDtypeChoice = "auto"
    token_budget: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 32
    block_items: Annotated[int, Field(ge=1)] = 32
    max_length: Annotated[int, Field(ge=1)] | None = None


class EvaluationConfig(ConfigSection):
    """Everything that a suite is built from, except the tokenizer.

    Attributes:
        tasks: the entries of `tasks:`.
        task_path: folders with lm-eval task YAML, relative to the suite's root; their tasks take precedence over those
            that come with lm-eval.
        seed: determines the order of items within blocks. The split does not depend on it.
    """

    tasks: tuple[TaskConfig, ...]
    task_path: tuple[Path, ...] = ()
    chat: ChatConfig = ChatConfig()
    split: SplitConfig = SplitConfig()
    scoring: ScoringConfig = ScoringConfig()
    seed: int = 0

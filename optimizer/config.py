"""The configuration of a run, search.yaml. Every key except base_model, models and tasks has a default."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from mergesmith.config_section import ConfigSection
from mergesmith.errors import Faults, UserError, unknown

from ..evaluators import ChatConfig, Limit, ScoringConfig, SplitConfig, TaskConfig
from ..merge_ops import check_kind, load_yaml, without_old_prefix
from ..search_spaces import SpaceConfig
from .config_faults import ONE_AS_BASE, described_faults
from .config_references import PathText, Reference
from .samplers import SAMPLERS

RESUMABLE = ("trials", "time_limit", "item_scores", "control", "workers", "output")  # what may change on resume
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?")
SECONDS = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> float:
    """Return the seconds in a time such as 90s, 30m, 8h or 2d; a bare number is seconds.

    Raises:
        UserError: the text is not a positive time.
    """
    match = DURATION.fullmatch(text.strip())
    if not match or float(match[1]) <= 0:
        raise UserError(f"a time must look like 90s, 30m, 8h or 2d, but is '{text}'")
    return float(match[1]) * SECONDS[match[2]]


class RacingSection(ConfigSection):
    """When a candidate is dropped before all its items are scored; `racing: off` is short for `rule: "off"`.

    Attributes:
        rule: `betting`, or `off` to score every candidate in full.
        alpha: upper bound on the probability of dropping a candidate whose full score would gain enough.
        min_items: number of scored items before which no candidate is dropped.
        least_gain: how much is enough, in standard errors of a difference on the select items. 0 drops only candidates
            that are worse than the incumbent.
    """

    rule: Literal["betting", "off"] = "betting"
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.1
    min_items: Annotated[int, Field(ge=1)] = 16
    least_gain: Annotated[float, Field(ge=0)] = 1.0

    @model_validator(mode="before")
    @classmethod
    def _switch(cls, data: Any) -> Any:
        """Accept `off` and `on`, which YAML reads as false and true."""
        if isinstance(data, dict):
            return {**data, "rule": "off"} if data.get("rule") is False else data
        if data in (False, "off"):
            return {"rule": "off"}
        return {} if data in (True, "on") else data


class SearchSection(ConfigSection):
    """How candidates are proposed and when the search stops.

    Attributes:
        sampler: `auto` works in stages; the other samplers are for comparison.
        stages: the stages that `auto` uses before it refines the best candidates.
        stop: whether `auto` may end the search before `trials` if it is unlikely to find anything better.
        trials: the largest number of proposed candidates; baselines and probes are not counted.
        time_limit: seconds; starts again when the run is resumed.
        item_scores: the most item scores that proposals may take; candidates in flight are finished. No limit if unset.
        control: `random` adds a random search that spends as many item scores as this one, for comparison.
        baselines: the usual merges that are scored before the first proposal, beside the base, the models and the
            recipes under `baselines:`: `all`, `none`, or a list of `uniform`, `task_arithmetic`, `slerp` and of names
            that `mergesmith plan` prints. `slerp` in a list is every pair of models.
        reuse_baselines: whether baselines take their scores from earlier runs with the same models, tasks and versions.
        seed: of the sampler, the split of the items and the masks.
        racing: when a candidate is dropped.
    """

    sampler: str = "auto"
    stages: tuple[Literal["line", "soup", "descent", "transfer"], ...] = ("line", "soup", "descent", "transfer")
    stop: bool = True
    trials: Annotated[int, Field(ge=0)] = 100
    time_limit: Annotated[float, Field(gt=0)] | None = None
    item_scores: Annotated[int, Field(gt=0)] | None = None
    control: Literal["random"] | None = None
    baselines: Literal["all", "none"] | tuple[str, ...] = "all"
    reuse_baselines: bool = True
    seed: Annotated[int, Field(ge=0)] = 0
    racing: RacingSection = RacingSection()

    @field_validator("sampler")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in SAMPLERS:
            raise ValueError(unknown("sampler", value, SAMPLERS))
        return value

    @field_validator("time_limit", mode="before")
    @classmethod
    def _duration(cls, value: Any) -> Any:
        return parse_duration(value) if isinstance(value, str) else value


class WorkersSection(ConfigSection):
    """The workers that score candidates.

    Attributes:
        pool: `local` scores in this process, `ray` in one Ray actor per worker.
        address: the Ray cluster: HOST:PORT of its head, or `auto` for the cluster that this machine is part of. Unset,
            the run starts a cluster on this machine.
        count: number of workers. Unset, as many as the cluster has room for, also when it grows.
        gpus_per_worker: a fraction shares a GPU, 2 or more spread a candidate over several. Unset, 1 if the cluster has
            GPUs.
        cpus_per_worker: CPU cores reserved for each worker.
        threads: CPU threads of torch. Unset, torch's default; with Ray, `cpus_per_worker`.
        device: `auto`, `cpu` or `cuda`.
        trial_timeout: seconds after which a worker counts as hung. Unset, derived from the running median.
        grace: seconds that candidates in flight get to finish after a stop signal.
    """

    pool: Literal["local", "ray"] = "local"
    address: str | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    gpus_per_worker: float | None = None
    cpus_per_worker: Annotated[int, Field(ge=1)] = 1
    threads: Annotated[int, Field(ge=1)] | None = None
    device: str = "auto"
    trial_timeout: Annotated[float, Field(gt=0)] | None = None
    grace: Annotated[float, Field(ge=0)] = 30.0

    @field_validator("trial_timeout", "grace", mode="before")
    @classmethod
    def _durations(cls, value: Any) -> Any:
        return parse_duration(value) if isinstance(value, str) else value

    @field_validator("gpus_per_worker")
    @classmethod
    def _whole_above_one(cls, value: float | None) -> float | None:
        if value is not None and not 0 <= value < 1 and not (value >= 1 and value.is_integer()):
            raise ValueError("must be a share of a GPU, 0 to 1, or a whole number of them")
        return value

    @model_validator(mode="after")
    def _where(self) -> WorkersSection:
        if self.pool == "local" and (self.address is not None or (self.count or 1) > 1):
            raise ValueError("several workers, or an address, need pool: ray; pool: local is one worker, this process")
        if self.address is not None and self.address.startswith("ray://"):
            raise ValueError("a Ray client's address cannot be used: start mergesmith on a machine of the cluster")
        return self

    def of_one(self, gpus: float | None) -> WorkersSection:
        """Return this section for a Ray worker that has `gpus` GPUs; None if that is not known."""
        # Ray hides no GPU of the node from a worker that asked for none.
        device = "cpu" if gpus == 0 and self.device == "auto" else self.device
        return self.model_copy(update={"threads": self.threads or self.cpus_per_worker, "device": device})


class RunConfig(ConfigSection):
    """A whole search.yaml. Model references and paths are as the user wrote them, relative to its folder.

    `limit` and `num_fewshot` hold for the lm-eval tasks that set none.
    """

    version: Literal[1] = 1
    base_model: Reference
    models: tuple[Reference, ...] = Field(min_length=1)
    tasks: tuple[TaskConfig, ...] = Field(min_length=1)
    limit: Limit = None
    num_fewshot: int | None = Field(default=None, ge=0)
    task_path: tuple[str, ...] = ()
    chat: ChatConfig = ChatConfig()
    split: SplitConfig = SplitConfig()
    space: SpaceConfig = SpaceConfig()
    baselines: tuple[str, ...] = ()
    search: SearchSection = SearchSection()
    scoring: ScoringConfig = ScoringConfig()
    workers: WorkersSection = WorkersSection()
    tokenizer_source: str | None = None
    bank: Literal["auto", "device", "host"] = "auto"
    output: PathText = "./runs/search"

    @field_validator("task_path", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("tokenizer_source")
    @classmethod
    def _without_prefix(cls, value: str | None) -> str | None:
        return without_old_prefix(value)

    @model_validator(mode="after")
    def _distinct(self) -> RunConfig:
        names = [self.base_model, *self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"'{twice[0]}' is listed twice in base_model and models; {ONE_AS_BASE}")
        tasks = [task.name for task in self.tasks]
        twice = sorted({name for name in tasks if tasks.count(name) > 1})
        if twice:
            raise ValueError(f"the task '{twice[0]}' is listed twice")
        if not any(task.weight for task in self.tasks):
            raise ValueError("at least one task must have a weight above 0, or there is nothing to maximize")
        known = ("union", "base", *names)
        if self.tokenizer_source is not None and self.tokenizer_source not in known:
            raise ValueError(unknown("tokenizer_source", self.tokenizer_source, known))
        return self

    @property
    def tokenizer_reference(self) -> str | None:
        """tokenizer_source with `base` replaced by its reference, because a slerp may not list the base."""
        return self.base_model if self.tokenizer_source == "base" else self.tokenizer_source

    @property
    def scored_tasks(self) -> tuple[TaskConfig, ...]:
        """The tasks, with the limit and number of examples that hold for all where a task sets none."""
        shared = {"limit": self.limit, "num_fewshot": self.num_fewshot}
        return tuple(
            task
            if task.python is not None
            else task.model_copy(update={key: value for key, value in shared.items() if getattr(task, key) is None})
            for task in self.tasks
        )

    def dated(self, day: datetime.date | str | None) -> RunConfig:
        """Return the configuration with the day that chat templates print, unless it names one or uses no template."""
        if not self.chat.apply_template or self.chat.date is not None or day is None:
            return self
        chat = ChatConfig.model_validate({**self.chat.model_dump(), "date": day})
        return self.model_copy(update={"chat": chat})

    def difference(self, other: RunConfig) -> list[str]:
        """Return the dotted keys whose values differ, among those that must not change on resume."""
        return sorted(_differences(_fixed(self), _fixed(other)))


def load_config(path: Path) -> RunConfig:
    """Read a search.yaml.

    Raises:
        UserError: the file cannot be read, or is invalid; all faults are listed, each with its key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    document = load_yaml(text, where=str(path))
    if isinstance(document, dict):
        check_kind(document, str(path), wanted="search")
    if not isinstance(document, dict):
        raise UserError(f"{path}: must be a mapping with base_model, models and tasks")
    return parse_config(document, where=str(path))


def parse_config(document: dict[str, Any], *, where: str) -> RunConfig:
    """Return the configuration in a parsed document; `where` names it in messages.

    Raises:
        UserError: the document is invalid; all faults are listed, each with its key.
    """
    try:
        return RunConfig.model_validate(document)
    except ValidationError as error:
        faults = Faults(where)
        for place, message in described_faults(error.errors(), RunConfig, document):
            faults.add(place, message)
        faults.raise_if_any()
        raise


def dump_config(config: RunConfig) -> str:
    """Return the configuration as YAML, with every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _fixed(config: RunConfig) -> dict[str, Any]:
    document = config.model_dump(mode="json")
    search = document["search"]
    for key in RESUMABLE:
        document.pop(key, None)
        search.pop(key, None)
    return document


def _differences(left: Any, right: Any, path: str = "") -> list[str]:
    if isinstance(left, dict) and isinstance(right, dict):
        keys = dict.fromkeys([*left, *right])
        return [d for k in keys for d in _differences(left.get(k), right.get(k), f"{path}.{k}" if path else k)]
    if path == "tasks" and [task["name"] for task in left] == [task["name"] for task in right]:
        pairs = zip(left, right, strict=True)
        return [d for one, other in pairs for d in _differences(one, other, f"tasks.{one['name']}")]
    return [] if left == right else [path]

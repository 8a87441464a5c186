"""Builds the content of a suite: loads tasks, splits items, restricts few-shot examples, builds requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mergesmith.errors import Faults, UserError

from ..config import PARTS, EvaluationConfig, Part, TaskConfig
from ..lm_eval_bridge.isolation import inside_lm_eval, quiet
from ..lm_eval_bridge.live_hflm import LiveLM
from .catalog import Catalog
from .chat_settings import SystemMessages, unused_by_task, unused_settings
from .documents import check_counts, ids_in_part, part_of
from .entries import (
    OpenedEntry,
    check_max_drop,
    different_ranges,
    direction,
    objective_entry,
    public_test_warning,
    task_entry,
)
from .fewshot import fewshot_pool
from .metrics import Metric, check_numeric, metric_like, resolve_metric
from .python_objectives import PythonObjective, load_objective
from .requests import build_requests, can_share_logits, read_items, set_num_fewshot, task_digest
from .suite_content import LeafTask, SuiteContent


class SuiteBuilder:
    """Builds a SuiteContent step by step, collecting the faults of all tasks before the next step."""

    def __init__(
        self,
        config: EvaluationConfig,
        *,
        tokenizer: Any,
        root: Path,
        allow_code_execution: bool,
    ) -> None:
        if config.chat.apply_template and not getattr(tokenizer, "chat_template", None):
            raise UserError("chat.apply_template: the tokenizer has no chat template; set apply_template to false")
        self.config = config
        self.root = root
        self.allow_code_execution = allow_code_execution
        with quiet():
            self.lm = LiveLM(
                tokenizer,
                batch_size=config.scoring.batch_size,
                max_length=config.scoring.max_length,
                date=config.chat.date,
            )
        self.faults = Faults("tasks")
        self.warnings = unused_settings(config)
        self.objectives: dict[str, PythonObjective] = {}

    def build(self) -> SuiteContent:
        """Run all steps in order.

        Raises:
            UserError: lists all faults of the first step that finds any.
        """
        self._check_names()
        names = [config.name for config in self.config.tasks if config.python is None]
        catalog = Catalog([self.root / folder for folder in self.config.task_path], names) if names else None
        opened = self._opened(catalog)
        self._check_split(opened)
        leaves = self._leaves(opened)
        if catalog is not None:
            self.warnings += [f"{path} is not a readable task: {why}" for path, why in catalog.unreadable.items()]
        by_name = {entry.config.name: task_entry(entry) for entry in opened}
        return SuiteContent(
            config=self.config,
            entries=tuple(by_name.get(config.name) or objective_entry(config) for config in self.config.tasks),
            leaves=leaves,
            objectives=self.objectives,
            catalog=catalog,
            lm=self.lm,
            share_logits=can_share_logits([request for leaf in leaves.values() for request in leaf.all_requests()]),
            warnings=tuple(self.warnings),
        )

    def _check_names(self) -> None:
        if not self.config.tasks:
            self.faults.add("", "name at least one task")
        names = [config.name for config in self.config.tasks]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.faults.add(name, "is listed twice; list a task once, with one metric")
        self.faults.raise_if_any()

    def _opened(self, catalog: Catalog | None) -> list[OpenedEntry]:
        opened = []
        for config in self.config.tasks:
            try:
                if config.python is not None:
                    self.objectives[config.name] = load_objective(config.name, config.python, root=self.root)
                elif catalog is not None:
                    opened.append(self._open(config, catalog))
            except UserError as error:
                self.faults.add(config.name, str(error))
        seen = dict.fromkeys(self.objectives, "a Python objective")
        for entry in opened:
            for leaf in entry.items:
                if leaf in seen:
                    self.faults.add(entry.config.name, f"task '{leaf}' is already part of {seen[leaf]}")
                seen[leaf] = f"'{entry.config.name}'"
        self.faults.raise_if_any()
        return opened

    def _open(self, config: TaskConfig, catalog: Catalog) -> OpenedEntry:
        if not self.allow_code_execution and catalog.runs_code(config.name):
            raise UserError(
                "runs code that the model generates on this machine; pass --allow-code-execution to allow it"
            )
        loaded = catalog.load(config.name)
        metrics, items = {}, {}
        for name, task in loaded.tasks.items():
            if getattr(task, "MULTIMODAL", False):
                raise UserError(f"{name} asks about images or sound; only text tasks can be scored")
            metrics[name] = self._metric(config, task, metrics)
            with inside_lm_eval():
                items[name] = read_items(task, config.limit)
            if (warning := public_test_warning(task)) is not None:
                self.warnings.append(warning)
        entry = OpenedEntry(config, loaded, metrics, items)
        direction(entry)
        check_max_drop(entry)
        self.warnings += different_ranges(entry)
        return entry

    def _metric(self, config: TaskConfig, task: Any, of_others: Mapping[str, Metric]) -> Metric:
        """Return the metric of a task whose group has `of_others` so far."""
        if of_others and config.metric is None and config.filter is None:
            return metric_like(task, next(iter(of_others.values())))
        try:
            return resolve_metric(task, config.metric, config.filter)
        except UserError as error:
            if config.name == task.task_name:
                raise
            raise UserError(
                f"{error} Without metric and filter each task of '{config.name}' keeps its default."
            ) from None

    def _check_split(self, opened: Sequence[OpenedEntry]) -> None:
        counts: dict[str, dict[Part, int]] = {}
        for entry in opened:
            digests = [digest for items in entry.items.values() for digest in items.digests]
            counts[entry.config.name] = {part: len(ids_in_part(digests, self.config.split, part)) for part in PARTS}
        self.warnings += check_counts(counts, self.config.split, self.faults)
        self.faults.raise_if_any()

    def _leaves(self, opened: Sequence[OpenedEntry]) -> dict[str, LeafTask]:
        every = [digest for entry in opened for items in entry.items.values() for digest in items.digests]
        held_out = frozenset(digest for digest in every if part_of(digest, self.config.split) != "search")
        leaves = {}
        for entry in opened:
            for name in entry.items:
                try:
                    leaves[name] = self._leaf(entry, name, held_out)
                except UserError as error:
                    self.faults.add(entry.config.name, str(error))
                except Exception as error:  # raised by templates and functions of the task
                    reason = f"{type(error).__name__}: {error}"
                    self.faults.add(entry.config.name, f"{name}: its prompts cannot be built: {reason}")
        self.faults.raise_if_any()
        return leaves

    def _leaf(self, entry: OpenedEntry, name: str, held_out: frozenset[str]) -> LeafTask:
        task, items, chosen = entry.loaded.tasks[name], entry.items[name], entry.metrics[name]
        shots, ignored = set_num_fewshot(task, entry.config.num_fewshot)
        if ignored:
            self.warnings.append(f"{name}: the task fixes num_fewshot to 0, so {entry.config.num_fewshot} is ignored")
        pool = fewshot_pool(task, items, shots=shots, held_out=held_out, split=self.config.split)
        if pool is not None:
            pool.apply(task)
            self.warnings.append(
                f"{name}: few-shot examples are drawn from {len(pool.docs)} documents outside the select and report "
                f"parts, so its prompts differ from those of a plain lm-eval run"
            )
        with inside_lm_eval():
            template = SystemMessages(self.lm)
            limit = None if entry.config.limit is None else len(items.docs)
            requests = build_requests(task, self.lm, limit=limit, chat=self.config.chat, template=template)
            check_numeric(task, chosen, [request.instance for request in requests[0]])
            fingerprint = task_digest(task, items, requests, chosen)
        self._check_chat(name, task, template)
        return LeafTask(task, items, chosen, pool, requests, fingerprint)

    def _check_chat(self, name: str, task: Any, template: SystemMessages) -> None:
        """Warn of chat settings that lm-eval ignores for a task.

        Raises:
            UserError: the chat template leaves out the system prompt of the configuration.
        """
        chat = self.config.chat
        self.warnings += [f"{name}: {warning}" for warning in unused_by_task(task, chat)]
        if template.fault is None:
            return
        if chat.system:
            raise UserError(
                f"{name}: chat.system would have no effect: {template.fault}, and lm-eval then scores without it. "
                "Remove chat.system, or give the tokenizer a chat template that writes it into the first user turn"
            )
        self.warnings.append(f"{name}: the task's description is not in its prompts, as in lm-eval: {template.fault}")

"""Finds and loads lm-eval tasks by name: first in the user's folders, then among lm-eval's built-in tasks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lm_eval.api.group import Group
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from mergesmith.errors import UserError, unknown

from ..lm_eval_bridge.isolation import inside_lm_eval, quiet

_YAML = (".yaml", ".yml")  # a member of a group may be a file
_INLINE_KEYS = frozenset({"dataset_path", "custom_dataset", "include", "class"})  # a group's member is a task itself
_CODE_METRICS = ("code_eval", "pass_at")


@dataclass(frozen=True)
class LoadedEntry:
    """The lm-eval tasks behind one name: a task, or the members of a group or tag; `group` is set for groups only."""

    tasks: Mapping[str, ConfigurableTask]
    group: Group | None


class Catalog:
    """lm-eval's tasks by name.

    Reading the index of lm-eval's 14,000 built-in names takes seconds, so it is read only if a name, or a member of a
    group, is not found in the user's folders, and then once per process.
    """

    def __init__(self, folders: Iterable[Path], names: Iterable[str]) -> None:
        self.folders = tuple(folders)
        for folder in self.folders:
            if not folder.is_dir():
                raise UserError(f"task_path: there is no folder '{folder}'")
        with quiet():
            self.manager = TaskManager(include_path=[str(folder) for folder in self.folders], include_defaults=False)
            self.unreadable = dict(self._unreadable_files())
            missing = [name for name in names if name not in self.manager.task_index]
            broken = any(self._broken_definition(name) for name in missing)
            if not broken and (missing or any(next(self._unknown_members(name), None) for name in names)):
                for name, entry in built_in_tasks().task_index.items():
                    self.manager.task_index.setdefault(name, entry)

    def check(self, name: str) -> None:
        """Check that a name and the members of its group are known; nothing is loaded.

        Raises:
            UserError: a name is unknown, or its YAML file is broken.
        """
        if name not in self.manager.task_index:
            raise UserError(self._broken_definition(name) or unknown("task", name, self.manager.task_index))
        for group, member in self._unknown_members(name):
            fault = self._broken_definition(member) or unknown("task", member, self.manager.task_index)
            raise UserError(f"its group '{group}' names the task '{member}': {fault}")

    def load(self, name: str) -> LoadedEntry:
        """Return new task objects, datasets included.

        Raises:
            UserError: an unknown name, a broken YAML file, or data that cannot be read or fetched.
        """
        self.check(name)
        try:
            with inside_lm_eval():
                loaded = self.manager.load([name])
        except Exception as error:
            source = self.manager.task_index[name].yaml_path or "its members"
            raise UserError(f"cannot be loaded from {source}: {type(error).__name__}: {error}") from error
        others = [key for key, task in loaded["tasks"].items() if not isinstance(task, ConfigurableTask)]
        if others or not loaded["tasks"]:
            reason = (
                f"contains other tasks than lm-eval's ConfigurableTask: {', '.join(others)}" if others else "is empty"
            )
            raise UserError(reason)
        return LoadedEntry(tasks=loaded["tasks"], group=loaded.get("groups", {}).get(name))  # type: ignore[arg-type]

    def runs_code(self, name: str) -> bool:
        """Return whether a task, or a member of a group or tag, executes code that the model generates.

        Nothing is loaded: loading such a task may already execute code in its metric's module.
        """
        return any(executes_code(config) for config in self._configs(name, set()))

    def _configs(self, name: str, seen: set[str]) -> Iterator[Mapping[str, Any]]:
        entry = self.manager.task_index.get(name)
        if entry is None or name in seen:
            return
        seen.add(name)
        for tagged in sorted(entry.tags) if entry.cfg is None else ():
            yield from self._configs(tagged, seen)
        if entry.cfg is not None:
            yield from self._nested(entry.cfg, seen)

    def _nested(self, config: Mapping[str, Any], seen: set[str]) -> Iterator[Mapping[str, Any]]:
        yield config
        members = config.get("task")
        for member in members if isinstance(members, list) else ():
            if isinstance(member, str):
                yield from self._configs(member, seen)
            else:
                yield from self._nested(member, seen)
                yield from self._configs(str(member.get("group") or member.get("task")), seen)

    def _unknown_members(self, name: str) -> Iterator[tuple[str, str]]:
        """Yield (group, task) for every task that a group names and that is not known."""
        for config in self._configs(name, set()):
            members = config.get("task")
            for member in members if isinstance(members, list) else ():
                named = member if isinstance(member, str) else member.get("task")
                inline = isinstance(member, dict) and not _INLINE_KEYS.isdisjoint(member)
                known = not isinstance(named, str) or named in self.manager.task_index or named.endswith(_YAML)
                if not inline and not known:
                    yield str(config.get("group", name)), str(named)

    def _unreadable_files(self) -> Iterator[tuple[Path, str]]:
        # The task manager skips such files without a warning.
        for folder in self.folders:
            for path in sorted(folder.glob("**/*.yaml")):
                try:
                    load_yaml(path, resolve_func=False)
                except Exception as error:
                    yield path, " ".join(f"{type(error).__name__}: {error}".split())

    def _broken_definition(self, name: str) -> str | None:
        pattern = re.compile(rf"^\s*-?\s*(task|group|tag)\s*:\s*[\"']?{re.escape(name)}\b", re.MULTILINE)
        for path, reason in self.unreadable.items():
            if pattern.search(path.read_text(encoding="utf-8", errors="replace")):
                return f"is defined in {path}, which cannot be read: {reason}"
        return None


@lru_cache(maxsize=1)
def built_in_tasks() -> TaskManager:
    """Return the index of the tasks that come with lm-eval."""
    return TaskManager(include_defaults=True)


def executes_code(config: Mapping[str, Any]) -> bool:
    """Return whether a task with this configuration executes code that the model generates."""
    metrics = config.get("metric_list")
    names = [str(metric.get("metric")) for metric in metrics or () if isinstance(metric, Mapping)]
    return bool(config.get("unsafe_code")) or any(code in name for name in names for code in _CODE_METRICS)

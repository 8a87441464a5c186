"""Keeps few-shot examples out of the select and report parts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lm_eval.api.samplers import ContextSampler
from lm_eval.api.task import ConfigurableTask

from mergesmith.errors import UserError

from ..config import SplitConfig
from .documents import digest, part_of
from .requests import TaskItems


class SearchPartSampler(ContextSampler):
    """Draws the examples for each document by a hash of that document, and never the document itself.

    lm-eval's default sampler uses one random generator for all documents, so a prompt depends on the documents before
    it. Here it depends on the document and the pool alone.
    """

    def sample(self, n: int, eval_doc: Any = None, df: Any = None, **kwargs: Any) -> Sequence[dict[str, Any]]:
        """Return `n` examples for `eval_doc`, in an order that the document determines."""
        key = digest(eval_doc)
        pool = [doc for name, doc in self._digested.items() if name != key]
        return random.Random(int(key, 16)).sample(pool, n)

    @cached_property
    def _digested(self) -> dict[str, dict[str, Any]]:
        return dict(sorted(((digest(doc), doc) for doc in self.df), key=lambda pair: pair[0]))


@dataclass(frozen=True)
class FewshotPool:
    """The documents that replace a task's source of few-shot examples.

    Attributes:
        docs: the documents to draw from.
        hashed: whether to replace lm-eval's default sampler by `SearchPartSampler`.
        without_scored: whether to keep each scored document out of its prompt; this needs one document more than there
            are examples.
    """

    docs: tuple[dict[str, Any], ...]
    hashed: bool
    without_scored: bool = True

    def apply(self, task: ConfigurableTask) -> None:
        """Make the task draw from this pool."""
        if self.hashed and type(task.sampler) is ContextSampler:
            task.sampler = SearchPartSampler(list(self.docs))
        else:
            task.sampler.replace_df(list(self.docs))
        if self.without_scored:
            # lm-eval passes the scored document to the sampler only if these two are equal.
            task.fewshot_cfg.split = task.config.test_split


def fewshot_pool(
    task: ConfigurableTask, items: TaskItems, *, shots: int, held_out: frozenset[str], split: SplitConfig
) -> FewshotPool | None:
    """Return the pool that keeps held-out documents out of the prompts, or None if the task's examples already do.

    A task with a separate few-shot split, or with examples in its configuration, loses only the examples that equal a
    held-out document, and may use all others. If the scored split is the source, one more is needed: a document is no
    example for itself.

    Args:
        task: the task.
        items: its documents.
        shots: its number of examples.
        held_out: digests of all select and report documents of the suite.
        split: the shares of the parts.

    Raises:
        UserError: fewer documents remain than the task needs.
    """
    if shots == 0:
        return None
    docs: list[dict[str, Any]] = list(task.sampler.df)
    separate = _source_split(task) != items.split_name
    if separate:
        kept = [doc for doc in docs if digest(doc) not in held_out]
    else:
        raw = items.all_digests if len(items.all_digests) == len(docs) else tuple(digest(doc) for doc in docs)
        kept = [doc for doc, key in zip(docs, raw, strict=True) if part_of(key, split) == "search"]
    _check_enough(task.task_name, kept, shots, separate=separate)
    if separate and len(kept) == len(docs):
        return None
    return FewshotPool(docs=tuple(kept), hashed=not separate, without_scored=len(kept) > shots)


def _check_enough(task_name: str, kept: Sequence[dict[str, Any]], shots: int, *, separate: bool) -> None:
    if separate:
        enough, needs, count = len(kept) >= shots, "", str(len(kept))
    else:
        distinct = len({digest(doc) for doc in kept})
        enough, needs, count = distinct > shots, " besides the question", f"{distinct} different"
    if not enough:
        more = "more examples" if separate else "a few-shot split"
        raise UserError(
            f"{task_name} needs {shots} few-shot examples{needs}, but only {count} documents remain outside the select "
            f"and report parts; lower num_fewshot or give the task {more}"
        )


def _source_split(task: ConfigurableTask) -> str | None:
    """Return the dataset split that lm-eval draws examples from; None if the configuration lists them."""
    if task.fewshot_cfg.split is not None:
        return task.fewshot_cfg.split
    if task.fewshot_cfg.samples is not None:
        return None
    return task.config.training_split or task.config.validation_split or task.config.test_split

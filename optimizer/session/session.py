"""Everything that scoring candidates of one run needs, opened once: sources, tokenizer, tasks, live model."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import prod
from pathlib import Path
from typing import Any

import torch

from mergesmith.errors import Faults, UserError

from ...evaluators import BlockScores, Part, Scores, ScoringReport, Suite, join
from ...merge_ops import (
    LiveModel,
    ModelBank,
    Recipe,
    Residency,
    Setting,
    Source,
    WeightsDigest,
    absolute_reference,
    check_vocabulary,
    output_dtype,
    output_tokenizer,
    plan_merge,
    read_recipe,
    same_tokens,
)
from ...search_spaces import BASE, MergeIngredients, SearchSpace, baselines, parent_name
from ..config import RunConfig
from .devices import pick_devices
from .source_placement import Placement, free_memory, matrices_per_tensor, place_sources


@dataclass(frozen=True)
class Options:
    """What a user allows on the command line rather than in search.yaml."""

    allow_code_execution: bool = False


class Session:
    """The opened run: `bank`, `suite`, `live`, `space`. Built the same way by the search, plan, eval and verify."""

    def __init__(self, config: RunConfig, root: Path, options: Options | None = None, *, neighbors: int = 1) -> None:
        """Open the sources and read their headers; tasks and weights follow when asked for.

        `root` is the folder that relative paths start from; `neighbors` counts the workers on this machine, each with
        such a session of its own.

        Raises:
            UserError: a source is missing or damaged, or the sources do not fit each other.
        """
        self.config, self.root, self.options = config, root.resolve(), options or Options()
        if config.workers.threads is not None:
            torch.set_num_threads(config.workers.threads)
        self.devices = pick_devices(config.workers.device, "workers.device", _gpus(config))
        self.device = self.devices[0]
        references = (config.base_model, *config.models)
        opened = ModelBank(references, roots=(self.root,), device=self.device)
        self.placement = self._placement(opened)
        residency = Residency(
            resident=self.placement.resident,
            pinned=sum(opened[reference].nbytes for reference in opened.references) <= host_memory() / 2 / neighbors,
            keep_deltas=True,
            homes=self.placement.homes,
        )
        self.bank = opened.with_residency(residency)
        self._loads = 0  # a name for the live model's present weights
        self._check_fit()

    @cached_property
    def subject(self) -> MergeIngredients:
        """What is merged; candidates are in the base model's dtype."""
        base = Recipe("passthrough", models=(Source(self.config.base_model),))
        dtype = output_dtype(plan_merge(base, self.bank), self.bank)
        source = self.tokenizer_source
        return MergeIngredients(self.config.base_model, self.config.models, dtype, self.config.search.seed, source)

    @property
    def tokenizer_source(self) -> str | None:
        """search.yaml's, with the base by its name: a candidate of two models need not have the base in it."""
        source = self.config.tokenizer_source
        return self.config.base_model if source == "base" else source

    @cached_property
    def space(self) -> SearchSpace:
        """The search space; every filter must match some tensor."""
        space = SearchSpace(self.config.space, self.subject)
        names = self.bank[self.config.base_model].entries
        faults = Faults("space.filters")
        for pattern in self.config.space.filters:
            if not any(pattern in name for name in names):
                faults.add("", f"'{pattern}' is part of no tensor name; a name here is '{next(iter(names))}'")
        faults.raise_if_any()
        return space

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer with which everything is scored: the base model's, or the one that candidates share."""
        return output_tokenizer(self._all, self.bank)

    @cached_property
    def suite(self) -> Suite:
        """The tasks."""
        config = self.config
        if config.chat.apply_template and not getattr(self.tokenizer, "chat_template", None):
            raise UserError(f"chat.apply_template: the tokenizer of '{config.base_model}' has no chat template")
        return Suite.load(
            config.tasks,
            tokenizer=self.tokenizer,
            root=self.root,
            task_path=[Path(folder) for folder in config.task_path],
            chat=config.chat,
            split=config.split,
            seed=config.search.seed,
            block_items=config.scoring.block_items,
            batch_size=config.scoring.batch_size,
            max_length=config.scoring.max_length,
            scorer=config.scoring.scorer,
            token_budget=config.scoring.token_budget,
            allow_code_execution=self.options.allow_code_execution,
        )

    @cached_property
    def live(self) -> LiveModel:
        """The model that candidates are written into."""
        memory = [load.free for load in self.placement.loads.values()] or None
        return LiveModel(self.bank, devices=self.devices, memory=memory)

    @cached_property
    def baselines(self) -> tuple[tuple[str, Recipe], ...]:
        """The named candidates that are scored first, the user's own recipes last.

        Raises:
            UserError: a recipe cannot be read, or its sources do not fit.
        """
        found = list(baselines(self.subject))
        for text in self.config.baselines:
            path = self.root / text
            recipe = self._local_names(read_recipe(path), path)
            self.bank.open(recipe.references())
            plan_merge(recipe, self.bank)
            self.check_tokenizer(recipe, path.name)
            found.append((path.name, recipe))
        return tuple(found)

    def ingredients(self) -> dict[str, dict[str, str]]:
        """Digests of what a run is made of: it may be resumed only with the same."""
        return {
            "model": {ref: self.bank[ref].sampled_digest for ref in (self.config.base_model, *self.config.models)},
            "task": self.suite.digests(),
        }

    def check_tokenizer(self, recipe: Recipe, name: str) -> None:
        """A recipe from outside the run must have the vocabulary that everything is scored with.

        Raises:
            UserError: it has another.
        """
        if recipe.vocabulary is None and self.tokenizer_source is None:
            check_vocabulary((self.config.base_model, *recipe.references()), self.bank)
            return
        shared = self._all if self._all.vocabulary else replace(self._all, tokenizer_source=self.config.base_model)
        if not same_tokens(recipe, shared, self.bank):
            raise UserError(
                f"{name}: its output has another vocabulary than the run's, whose tokenizer scores it; its "
                f"tokenizer_source must be that of search.yaml, {self.config.tokenizer_source or 'none'}"
            )

    def task_warnings(self) -> tuple[str, ...]:
        """Warnings about the tasks, among them prompts that are longer than the model takes.

        Raises:
            UserError: a task's answers are longer than the model takes.
        """
        return (*self.suite.warnings, *self.suite.check(self.load(self.baselines[0][1])))

    def check_scorers(self) -> ScoringReport:
        """Choose each task's scorer: the fastest that gives lm-eval's own scores on the base and the models.

        Raises:
            ScoringError: none of them can be scored.
        """
        names = (BASE, *(parent_name(model) for model in self.config.models))

        return self.suite.check_scorers(
            lambda: [(name, partial(self.load, recipe)) for name, recipe in self.baselines if name in names]
        )

    def load(self, recipe: Recipe, *, digest: WeightsDigest | None = None) -> Any:
        """Merge a recipe into the live model, and return that."""
        self._loads += 1
        self.live.load(recipe, digest=digest)
        return self.live.model

    def evaluate(self, recipe: Recipe, part: Part, *, digest: WeightsDigest | None = None) -> Scores:
        """Merge a recipe and score it on a whole part.

        Raises:
            MergeError: a method's numbers define no tensor.
            ScoringError: the merged model cannot be scored.
        """
        self.load(recipe, digest=digest)
        return join(list(self.blocks(part)))

    def blocks(self, part: Part) -> Iterator[BlockScores]:
        """Score the live model block by block."""
        for block in self.suite.blocks(part):
            yield self.suite.score(self.live.model, block, weights=self._loads)

    def timed_load(self, recipe: Recipe, *, digest: WeightsDigest | None = None) -> float:
        """Merge a recipe into the live model; returns seconds."""
        start = time.perf_counter()
        self.load(recipe, digest=digest)
        for device in self.devices:
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # kernels are only begun
        return time.perf_counter() - start

    def _placement(self, opened: ModelBank) -> Placement:
        share = self.config.workers.gpus_per_worker or 1.0
        free = [found for device in self.devices if (found := free_memory(device, min(1.0, share))) is not None]
        if not free:
            return Placement(False, "memory-mapped")
        plan = plan_merge(self._all, opened)
        spectral = matrices_per_tensor(tuple(self.config.space.methods))
        return place_sources(plan, opened, self.devices, free, wish=self.config.bank, spectral=spectral)

    def decomposed_bytes(self) -> int:
        """Bytes of the merged matrices that candidates share, in float32, of all methods that decompose."""
        entries = self.bank[self.config.base_model].entries.values()
        return 4 * matrices_per_tensor(tuple(self.config.space.methods)) * sum(prod(entry.shape) for entry in entries)

    def source_bytes(self) -> int:
        """Bytes of all sources' tensors."""
        return sum(self.bank[reference].nbytes for reference in self.bank.references)

    @cached_property
    def _all(self) -> Recipe:
        """All models merged, in the vocabulary of the candidates."""
        names = (self.config.base_model, *self.config.models)
        models = tuple(Source(model) for model in names)
        weight = {"weight": Setting.constant(1.0)}
        return Recipe("linear", models=models, parameters=weight, tokenizer_source=self.tokenizer_source)

    def _check_fit(self) -> None:
        plan_merge(self._all, self.bank)

    def _local_names(self, recipe: Recipe, path: Path) -> Recipe:
        """The recipe with references that mean one of the run's models spelled as the run spells them."""
        known = {absolute_reference(ref, self.bank.roots): ref for ref in self.bank.references}
        names: dict[str, str] = {}
        for reference in recipe.references():
            for place in (path.parent, self.root, Path()):
                match = known.get(absolute_reference(reference, (place,)))
                if match is not None:
                    names[reference] = match
                    break
        return recipe.renamed(names)


def _gpus(config: RunConfig) -> int:
    """How many GPUs a worker has for itself; a share of one is one."""
    return max(1, int(config.workers.gpus_per_worker or 1))


def host_memory() -> int:
    """Bytes of this machine's memory; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0

"""Everything that scoring candidates of one run needs, opened once: sources, tokenizer, tasks, live model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from mergesmith.errors import UserError

from ...evaluators import ScoringReport, Suite
from ...merge_ops import (
    LiveModel,
    ModelBank,
    Recipe,
    Setting,
    Source,
    output_tokenizer,
    read_recipe,
)
from ...merge_ops.merging.plan_recipe import plan_merge
from ...merge_ops.planning.output_config import output_dtype
from ...search_spaces import BASE, MergeIngredients, SearchSpace, baselines, parent_name
from ..config import RunConfig
from .devices import pick_devices
from .live_candidate import LiveCandidate
from .recipe_checks import check_filters, check_vocabulary_of, with_run_names
from .source_placement import Placement, free_memory, host_memory, matrices_per_tensor, place_sources
from .versions import versions


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
        self.bank = ModelBank(references, roots=(self.root,), device=self.device, keep_deltas=True)
        self.placement = self._placement()
        self.bank.resident, self.bank.homes = self.placement.resident, self.placement.homes
        self.bank.pinned = self.bank.streams and self.source_bytes() <= host_memory() / 2 / neighbors
        plan_merge(self._all, self.bank)  # checks that the sources are compatible

    @cached_property
    def merge_ingredients(self) -> MergeIngredients:
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
        space = SearchSpace(self.config.space, self.merge_ingredients)
        check_filters(self.config.space.filters, self.bank[self.config.base_model].entries)
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
    def candidate(self) -> LiveCandidate:
        """The live model as the place where recipes are merged and scored."""
        return LiveCandidate(self.live, self.suite)

    @cached_property
    def baselines(self) -> tuple[tuple[str, Recipe], ...]:
        """The named candidates that are scored first, the user's own recipes last.

        Raises:
            UserError: a recipe cannot be read, or its sources do not fit.
        """
        named = list(baselines(self.merge_ingredients))
        for text in self.config.baselines:
            path = self.root / text
            recipe = with_run_names(read_recipe(path), folders=(path.parent, self.root, Path()), bank=self.bank)
            self.bank.open(recipe.references())
            plan_merge(recipe, self.bank)
            self.check_tokenizer(recipe, path.name)
            named.append((path.name, recipe))
        return tuple(named)

    def ingredient_digests(self) -> dict[str, dict[str, str]]:
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
        check_vocabulary_of(recipe, name, candidates=self._all, config=self.config, bank=self.bank)

    def scored_with(self) -> dict[str, str | None]:
        """Return what decides, besides the models and tasks, whether a scorer agrees with lm-eval's."""
        return {"device": self.device.type, **versions()}

    def task_warnings(self) -> tuple[str, ...]:
        """Warnings about the tasks, among them prompts that are longer than the model takes.

        Raises:
            UserError: a task's answers are longer than the model takes.
        """
        return (*self.suite.warnings, *self.suite.check(self.candidate.load(self.baselines[0][1])))

    def check_scorers(self) -> ScoringReport:
        """Choose each task's scorer: the fastest that gives lm-eval's own scores on the base and the models.

        Raises:
            ScoringError: none of them can be scored.
        """
        names = (BASE, *(parent_name(model) for model in self.config.models))

        return self.suite.check_scorers(
            lambda: [(name, partial(self.candidate.load, recipe)) for name, recipe in self.baselines if name in names]
        )

    def _placement(self) -> Placement:
        share = self.config.workers.gpus_per_worker or 1.0
        free = [found for device in self.devices if (found := free_memory(device, min(1.0, share))) is not None]
        if not free:
            return Placement(False, "memory-mapped")
        plan = plan_merge(self._all, self.bank)
        spectral = matrices_per_tensor(tuple(self.config.space.methods))
        return place_sources(plan, self.bank, self.devices, free, wish=self.config.bank, spectral=spectral)

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


def _gpus(config: RunConfig) -> int:
    """How many GPUs a worker has for itself; a share of one is one."""
    return max(1, int(config.workers.gpus_per_worker or 1))

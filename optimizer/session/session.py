"""The opened run: sources, search space, tokenizer, tasks, live model, baselines."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from mergesmith.errors import UserError

from ...evaluators import EvaluationConfig, ScoringPlan, ScoringReport, Suite, SuiteFacts
from ...merge_ops import (
    LiveModel,
    ModelBank,
    Recipe,
    Residency,
    Setting,
    Source,
    output_dtype,
    output_tokenizer,
    plan_merge,
    read_recipe,
    weights_key,
)
from ...search_spaces import BASE, MergeIngredients, SearchSpace, baselines, left_out, parent_name
from ..config import RunConfig
from .devices import limit_memory, pick_devices
from .gold_probe import GoldProbe
from .live_candidate import LiveCandidate
from .options import Options
from .pinning import Pinning
from .prompt_template import PromptTemplate
from .recipe_checks import (
    check_filters,
    check_language_models,
    check_vocabulary_of,
    with_run_names,
)
from .scoring_dtype import ScoringDtype, choose_dtype, itemsize
from .source_placement import Placement, free_memory, matrices_per_tensor, place_sources
from .versions import versions


class Session:
    """Everything needed to score the candidates of a run, each part opened on first use.

    The commands search, replay, plan, eval and verify, and every worker, build one in the same way.
    """

    def __init__(self, config: RunConfig, root: Path, options: Options | None = None, *, neighbors: int = 1) -> None:
        """Open the sources and read their headers; tasks and weights are loaded on first use.

        `root` is the folder to which relative paths refer; `neighbors` is the number of workers on this machine, which
        share its memory.

        Raises:
            UserError: a source is missing or damaged, or the sources are incompatible.
        """
        self.config, self.root, self.options = config, root.resolve(), options or Options()
        if config.workers.threads is not None:
            torch.set_num_threads(config.workers.threads)
        self.devices = pick_devices(config.workers.device, "workers.device", _gpus(config))
        self.device = self.devices[0]
        limit_memory(self.device, config.workers.gpus_per_worker)
        references = (config.base_model, *config.models)
        trust = self.options.trust_remote_code
        opened = ModelBank(references, roots=(self.root,), device=self.device, trust_remote_code=trust)
        check_language_models(opened, opened.references)
        self._held_in: ScoringDtype | None = None
        self.bank = opened
        self.placement = self._placement(opened)
        self.pinning = Pinning.of(opened, workers=neighbors)
        residency = Residency(
            resident=self.placement.resident,
            pinned=self.pinning.pinned,
            keep_deltas=True,
            homes=self.placement.homes,
        )
        self.bank = opened.with_residency(residency)
        self._weights_keys: dict[str, str] = {}  # by the recipe's digest
        plan_merge(self._all, self.bank)  # checks that the sources are compatible

    @cached_property
    def merge_ingredients(self) -> MergeIngredients:
        """The inputs of the search space; candidates have the base model's dtype."""
        base = Recipe("passthrough", models=(Source(self.config.base_model),))
        dtype = output_dtype(plan_merge(base, self.bank), self.bank)
        opened = self.bank[self.config.base_model]
        return MergeIngredients(
            self.config.base_model,
            self.config.models,
            dtype,
            seed=self.config.search.seed,
            tokenizer_source=self.config.tokenizer_reference,
            chat_templates=self._prompt_template.others,
            layers=opened.architecture.num_layers,
            tensors=tuple(task.name for task in plan_merge(self._all, self.bank).tasks),
        )

    @cached_property
    def space(self) -> SearchSpace:
        """The search space.

        Raises:
            UserError: the `space` section is at fault, or a filter has no effect.
        """
        space = SearchSpace(self.config.space, self.merge_ingredients)
        check_filters(self.config.space, self.merge_ingredients.tensors)
        return space

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer used for all scoring: the base model's, or the one that all candidates share."""
        return output_tokenizer(self._all, self.bank)

    @cached_property
    def suite(self) -> Suite:
        """The tasks.

        Raises:
            UserError: a task is at fault, or a chat template is asked for and the tokenizer has none.
        """
        config = self.config
        if config.chat.apply_template and not getattr(self.tokenizer, "chat_template", None):
            raise UserError(f"chat.apply_template: the tokenizer of '{config.base_model}' has no chat template")
        evaluation = EvaluationConfig(
            tasks=config.scored_tasks,
            task_path=tuple(Path(folder) for folder in config.task_path),
            chat=config.chat,
            split=config.split,
            scoring=config.scoring,
            seed=config.search.seed,
        )
        allowed = self.options.allow_code_execution
        return Suite.load(evaluation, tokenizer=self.tokenizer, root=self.root, allow_code_execution=allowed)

    @cached_property
    def live(self) -> LiveModel:
        """The model in memory that candidates are merged into."""
        memory = [load.free for load in self.placement.loads.values()] or None
        return LiveModel(self.bank, devices=self.devices, memory=memory, dtype=self.scoring_dtype.name)

    @property
    def scoring_dtype(self) -> ScoringDtype:
        """The dtype in which the live model holds its weights."""
        if self._held_in is None:
            out, base = self.merge_ingredients.out_dtype, self.config.base_model
            self._held_in = choose_dtype(self.config.scoring.dtype, out=out, bank=self.bank, base_model=base)
        return self._held_in

    def hold_in(self, dtype: str | None) -> None:
        """Score in a dtype that was chosen before; None is that of each recipe."""
        self._held_in = ScoringDtype(dtype, f"Scored in {dtype}, as recorded." if dtype else "")
        if "live" in vars(self):
            self.live.hold_in(dtype)

    def use(self, plan: ScoringPlan) -> None:
        """Score by a plan that was chosen earlier or in another process."""
        self.hold_in(plan.dtype)
        self.suite.use(plan)

    @cached_property
    def candidate(self) -> LiveCandidate:
        """Merges recipes into the live model and scores them."""
        return LiveCandidate(self.live, self.suite)

    @cached_property
    def gold_probe(self) -> GoldProbe:
        """Computes the loss of the gold answers and its slopes in the merge weights."""
        return GoldProbe(self.space, self.bank, self.candidate)

    @cached_property
    def baselines(self) -> tuple[tuple[str, Recipe], ...]:
        """(name, recipe) of the candidates that are scored first; the user's recipes come last.

        Raises:
            UserError: a recipe cannot be read, or its sources are incompatible.
        """
        named = list(baselines(self.merge_ingredients, self.config.search.baselines))
        for text in self.config.baselines:
            path = self.root / text
            recipe = with_run_names(read_recipe(path), folders=(path.parent, self.root, Path()), bank=self.bank)
            recipe = self._prompt_template.of_recipe(recipe)
            self.bank.open(recipe.references())
            plan_merge(recipe, self.bank)
            self.check_tokenizer(recipe, path.name)
            named.append((path.name, recipe))
        return tuple(named)

    def weights_key(self, recipe: Recipe) -> str:
        """Return a string that is equal for recipes that give the same weights; see `merge_ops.weights_key`."""
        digest = recipe.digest
        if digest not in self._weights_keys:
            key = None
            with suppress(UserError):  # scoring it reports the fault
                key = weights_key(plan_merge(recipe, self.bank))
            self._weights_keys[digest] = key or digest
        return self._weights_keys[digest]

    def ingredient_digests(self) -> dict[str, dict[str, str]]:
        """Return the digests of models and tasks; a run can be resumed only if they are unchanged."""
        return {
            "model": {ref: self.bank[ref].sampled_digest for ref in (self.config.base_model, *self.config.models)},
            "task": self.suite.digests(),
        }

    def check_tokenizer(self, recipe: Recipe, name: str) -> None:
        """Check that a recipe from outside the run has the vocabulary and chat template used for all scoring.

        Raises:
            UserError: its vocabulary differs, or it gives another chat template.
        """
        check_language_models(self.bank, recipe.references())
        check_vocabulary_of(recipe, name, candidates=self._all, config=self.config, bank=self.bank)
        self._prompt_template.check(recipe, name, self.bank)

    def scored_with(self) -> dict[str, str | None]:
        """Return the device type and library versions, on which a scorer's agreement with lm-eval's scores depends."""
        return {"device": self.device.type, **versions()}

    def space_warnings(self) -> list[str]:
        """Return warnings about the search space and about baselines that it leaves out."""
        return [
            *left_out(self.merge_ingredients, self.config.search.baselines),
            *self.space.warnings(self.config.search.trials),
        ]

    def task_warnings(self) -> tuple[str, ...]:
        """Return warnings about the tasks, such as prompts that exceed the model's context length.

        Raises:
            UserError: a task's answers exceed the model's context length.
        """
        warnings = (*self.suite.warnings, *self.suite.check(self.candidate.load(self.baselines[0][1])))
        return (*warnings, *self._prompt_template.warnings())

    def suite_facts(self) -> SuiteFacts:
        """Return facts about the tasks and the tokenizer that explain suspicious scores."""
        named = self.config.tokenizer_reference
        source = self.bank[named if named in self.bank.references else self.config.base_model]
        return self.suite.facts(source.folder / "tokenizer.json", source.tokenizer())

    def check_scorers(self) -> ScoringReport:
        """Choose each task's scorer: the fastest that reproduces lm-eval's scores on the base and the models.

        Raises:
            ScoringError: none of the models can be scored.
        """
        names = (BASE, *(parent_name(model) for model in self.config.models))
        return self.suite.check_scorers(
            lambda: [(name, partial(self.candidate.load, recipe)) for name, recipe in self.baselines if name in names]
        )

    def _placement(self, opened: ModelBank) -> Placement:
        share = self.config.workers.gpus_per_worker or 1.0
        free = [found for device in self.devices if (found := free_memory(device, min(1.0, share))) is not None]
        if not free:
            return Placement(False, "memory-mapped")
        plan = plan_merge(self._all, opened)
        spectral = matrices_per_tensor(tuple(self.config.space.methods))
        out = self.merge_ingredients.out_dtype
        scale = itemsize(self.scoring_dtype.name or out) / itemsize(out)
        wish = self.config.bank
        return place_sources(plan, opened, self.devices, free, wish=wish, spectral=spectral, live_scale=scale)

    def source_bytes(self) -> int:
        """Return the size in bytes of all sources' tensors."""
        return sum(self.bank[reference].nbytes for reference in self.bank.references)

    @cached_property
    def _prompt_template(self) -> PromptTemplate:
        if not self.config.chat.apply_template:
            return PromptTemplate()
        models = (
            self.config.models if self.config.tokenizer_reference is None else ()
        )  # else the output's tokenizer is the run's
        return PromptTemplate.of(self.tokenizer, models, self.bank)

    @cached_property
    def _all(self) -> Recipe:
        """A merge of all models, in the vocabulary of the candidates; used to check and place the sources."""
        names = (self.config.base_model, *self.config.models)
        models = tuple(Source(model) for model in names)
        weight = {"weight": Setting.constant(1.0)}
        return Recipe("linear", models=models, parameters=weight, tokenizer_source=self.config.tokenizer_reference)


def _gpus(config: RunConfig) -> int:
    """Return how many GPUs a worker uses; a share of a GPU counts as one."""
    return max(1, int(config.workers.gpus_per_worker or 1))

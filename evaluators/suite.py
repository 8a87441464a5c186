"""The suite: the configured tasks, ready to score one candidate after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checks.report import ScoringReport
from .checks.suite_facts import SuiteFacts
from .config import PARTS, EvaluationConfig, Part
from .inference.attention_backend import disable_cudnn_attention
from .records import Block, BlockScores, ItemText, TaskEntry
from .scoring.scorers import ScoringPlan
from .tasks.blocks import make_blocks, search_blocks

if TYPE_CHECKING:
    from .checks.self_check import Candidates
    from .gold.gold_losses import GoldLosses
    from .scoring.scoring_loop import ScoringLoop
    from .tasks.suite_content import SuiteContent


class Suite:
    """Tasks, their prompts and tokens, their split and their blocks: everything that is the same for all candidates.

    Build a suite with `Suite.load`. Score a part by scoring each of `blocks(part)` and joining the results. Blocks fix
    the evaluation: the same items in the same batches, whether or not a search stops a candidate early.
    """

    def __init__(self, content: SuiteContent, blocks: Mapping[Part, tuple[Block, ...]]) -> None:
        self.content = content
        self._blocks = blocks
        self._checked_length: int | None = None
        self._plan: ScoringPlan | None = None
        self._loop: ScoringLoop | None = None
        self._shape: tuple[Any, ...] = ()

    @classmethod
    def load(cls, config: EvaluationConfig, *, tokenizer: Any, root: Path, allow_code_execution: bool = False) -> Suite:
        """Load tasks, build and tokenize all their requests, split their items and cut them into blocks.

        Args:
            config: the tasks and how they are scored.
            tokenizer: the tokenizer that every candidate shares; it is copied.
            root: the folder that relative paths (task folders, Python objectives) are resolved against.
            allow_code_execution: let tasks run code that the model wrote.

        Raises:
            UserError: unknown names, unreadable files or data, metrics or filters that a task does not have,
                parts with too few items, or tasks that run code without permission.
        """
        disable_cudnn_attention()
        # lm-eval and transformers take seconds to import; a configuration must be readable without them.
        from .lm_eval_bridge.isolation import seeded_generators
        from .tasks.suite_builder import SuiteBuilder

        builder = SuiteBuilder(config, tokenizer=tokenizer, root=Path(root), allow_code_execution=allow_code_execution)
        with seeded_generators():  # lm-eval draws random numbers in unexpected places, such as when naming a task
            content = builder.build()
        return cls(content, {part: _blocks(content, part) for part in PARTS})

    @property
    def entries(self) -> tuple[TaskEntry, ...]:
        """One entry per configured task, in the order of the configuration."""
        return self.content.entries

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the tasks, one sentence each."""
        return self.content.warnings

    def counts(self, part: Part) -> dict[str, int]:
        """Return the number of items of each entry in a part; 0 for a Python objective, whose items are unknown."""
        return {
            entry.name: sum(
                len(self.content.document_ids(leaf.name, part)) for leaf in entry.leaves if not entry.python
            )
            for entry in self.entries
        }

    def digests(self) -> dict[str, str]:
        """Return by leaf name a SHA-256 of configuration, prompts and documents, or of an objective's source file."""
        digests = {name: leaf.digest for name, leaf in self.content.leaves.items()}
        return digests | {name: objective.digest for name, objective in self.content.objectives.items()}

    def blocks(self, part: Part) -> tuple[Block, ...]:
        """Return a part's blocks in the order to score them in."""
        return self._blocks[part]

    def check(self, model: Any) -> tuple[str, ...]:
        """Return warnings for prompts that are longer than the model's context.

        Raises:
            UserError: an answer of a task is longer than the model's context, so the model cannot be scored on it.
        """
        from .tasks.length_check import check_lengths

        self.content.lm.attach(model)
        warnings = check_lengths(self.content)
        self._checked_length = self.content.lm.max_length
        return warnings

    def check_scorers(self, candidates: Candidates) -> ScoringReport:
        """Choose each task's scorer by comparing sampled items with lm-eval, and use it from now on.

        Args:
            candidates: yields (name, load) pairs; load() puts the weights in place and returns the model. Called again
                when a scorer was rejected, so that the next one is checked on all candidates.

        Raises:
            ScoringError: lm-eval can score none of the candidates.
        """
        from .checks.self_check import SelfCheck
        from .lm_eval_bridge.isolation import inside_lm_eval

        with inside_lm_eval():
            report = SelfCheck(self.content).run(candidates)
        self.use(report.plan)
        return report

    def use(self, plan: ScoringPlan) -> None:
        """Score by a plan that was chosen earlier or in another process."""
        self._plan, self._loop = plan, None
        if plan.batch_size is not None:
            self.content.lm.set_batch_size(plan.batch_size)

    @property
    def plan(self) -> ScoringPlan | None:
        """The scorers and batch sizes; None before scorers have been chosen."""
        return self._plan

    @property
    def scorers(self) -> dict[str, str]:
        """The scorer of each task by name; empty before scorers have been chosen."""
        return {} if self._plan is None else {leaf: str(scorer) for leaf, scorer in self._plan.scorers.items()}

    def score(self, model: Any, block: Block, *, weights: object = None) -> BlockScores:
        """Score one block with the model's present weights.

        The model may be overwritten in place between calls. If no scorers have been chosen yet, they are chosen on
        this model.

        Args:
            model: the candidate.
            block: a block of this suite.
            weights: identifies the model's present weights, such as the number of the candidate. Keys and values of
                shared prompt prefixes are reused between consecutive calls with equal values; None disables this.

        Raises:
            ScoringError: this candidate cannot be scored: non-finite outputs, a metric or objective that fails, or
                too little memory.
            UserError: see `check`; raised before the first block of a model.
        """
        from .scoring.scoring_loop import ScoringLoop

        self.content.lm.attach(model)
        if self._checked_length != self.content.lm.max_length:
            self.check(model)
        if self._plan is None:
            self.check_scorers(lambda: [("this model", lambda: model)])
        assert self._plan is not None, "Should not reach."
        shape = (self.content.lm.max_length, model.device)
        if self._loop is None or self._shape != shape:
            self._loop, self._shape = ScoringLoop(self.content, self._plan), shape
        return self._loop.score(model, block, weights)

    def facts(self, tokenizer_file: Path, loaded: Any) -> SuiteFacts:
        """Return facts that explain suspicious scores.

        Args:
            tokenizer_file: the tokenizer.json of the model whose tokenizer the suite uses; it need not exist.
            loaded: the tokenizer that transformers loads from the folder of that file.
        """
        from .checks.collect_facts import collect_facts

        return collect_facts(self.content, tokenizer_file, loaded)

    def item_texts(self, part: Part) -> dict[str, dict[str, ItemText]]:
        """Return the texts of a part's items: leaf -> id -> text. Python objectives have none."""
        from .gold.item_texts import item_text

        content = self.content
        return {
            name: {str(doc): item_text(leaf, doc) for doc in content.document_ids(name, part)}
            for name, leaf in content.leaves.items()
        }

    def gold_losses(self, model: Any, items: Mapping[str, Sequence[int]], *, tokens: int = 4096) -> GoldLosses:
        """Return differentiable losses of the gold answers of some items, as `Block.items` names them.

        Args:
            model: a model of the candidates' shape; its weights do not matter.
            items: task -> document ids.
            tokens: the most tokens in a batch, padding included.
        """
        from .gold.gold_losses import GoldLosses

        packed = frozenset(leaf for leaf, scorer in self.scorers.items() if scorer.startswith("packed"))
        return GoldLosses(self.content, model, items, tokens=tokens, packed=packed)


def _blocks(content: SuiteContent, part: Part) -> tuple[Block, ...]:
    items = {leaf: content.document_ids(leaf, part) for leaf in content.leaves}
    objectives, seed = tuple(content.objectives), content.config.seed
    if part != "search":  # only the search stops candidates early
        return make_blocks(part, items, objectives, seed=seed, block_items=None)
    raced = {leaf.name for entry in content.entries if entry.raced for leaf in entry.leaves}
    return search_blocks(items, objectives, raced, seed=seed, block_items=content.config.scoring.block_items)

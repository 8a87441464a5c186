"""The suite: the configured tasks, ready to score one candidate after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import PARTS, ChatConfig, Part, SplitConfig, TaskConfig
from .records import Block, BlockScores, TaskEntry
from .scoring.scorers import Choice, ScoringPlan, ScoringReport
from .tasks.blocks import make_blocks

if TYPE_CHECKING:
    from .checks.self_check import Candidates
    from .gold.gold_losses import GoldLosses
    from .scoring.scoring_loop import Loop
    from .tasks.suite_content import Content


class Suite:
    """Tasks, their prompts and tokens, their split and their blocks: everything that no candidate changes.

    Build one with `Suite.load`; score a part by scoring each of `blocks(part)` and joining what comes out. The blocks
    are the evaluation: the same items in the same batches, whether or not a search stops early.
    """

    def __init__(
        self,
        content: Content,
        blocks: Mapping[Part, tuple[Block, ...]],
        *,
        scorer: Choice = "auto",
        token_budget: int | None = None,
    ) -> None:
        self.content = content
        self._blocks = blocks
        self._checked_length: int | None = None
        self._scorer: Choice = scorer
        self._token_budget = token_budget
        self._plan: ScoringPlan | None = None
        self._loop: Loop | None = None
        self._shape: tuple[Any, ...] = ()

    @classmethod
    def load(
        cls,
        tasks: Sequence[TaskConfig],
        *,
        tokenizer: Any,
        root: Path,
        task_path: Sequence[Path] = (),
        chat: ChatConfig | None = None,
        split: SplitConfig | None = None,
        seed: int = 0,
        block_items: int = 64,
        batch_size: int = 32,
        max_length: int | None = None,
        scorer: Choice = "auto",
        token_budget: int | None = None,
        allow_code_execution: bool = False,
    ) -> Suite:
        """Load tasks, build and tokenize all their requests, split their items and cut them into blocks.

        Args:
            tasks: the entries of `tasks:`.
            tokenizer: the tokenizer that every candidate shares; it is copied.
            root: the folder that relative paths (`task_path`, Python objectives) start from.
            task_path: folders with lm-eval task YAML; their names come before lm-eval's own.
            chat: how prompts become chats; unset, they do not.
            split: the shares of the parts; unset, 60, 20 and 20 %.
            seed: orders the blocks. The split does not depend on it.
            block_items: items in the first block of the search part; see `block_ends`.
            batch_size: rows per forward pass of lm-eval's own scorer.
            max_length: positions per row; unset, the model's own.
            scorer: "auto" is, for each task, the fastest that gives what lm-eval gives; see `check_scorers`.
            token_budget: tokens per batch of the other scorers; unset, what fits the device.
            allow_code_execution: let tasks run code that the model wrote.

        Raises:
            UserError: unknown names, files or data that cannot be read, metrics or filters that a task does not have,
                parts with too few items, tasks that run code without permission.
        """
        # lm-eval and transformers take seconds to import; a configuration must be readable without them.
        from .lm_eval_bridge.isolation import own_generators
        from .tasks.suite_builder import Assembly

        assembly = Assembly(
            tasks,
            tokenizer=tokenizer,
            root=Path(root),
            chat=chat or ChatConfig(),
            split=split or SplitConfig(),
            batch_size=batch_size,
            max_length=max_length,
            allow_code_execution=allow_code_execution,
        )
        with own_generators():  # lm-eval draws random numbers in places as unlikely as a task's name
            content = assembly.build([Path(folder) for folder in task_path])
        blocks: dict[Part, tuple[Block, ...]] = {
            part: make_blocks(
                part,
                {leaf: content.numbered(leaf, part) for leaf in content.leaves},
                tuple(content.objectives),
                seed=seed,
                block_items=block_items if part == "search" else None,  # nobody looks between the others
            )
            for part in PARTS
        }
        return cls(content, blocks, scorer=scorer, token_budget=token_budget)

    @property
    def entries(self) -> tuple[TaskEntry, ...]:
        """One per configured task, in that order."""
        return self.content.entries

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know about the tasks, one sentence each."""
        return self.content.warnings

    def counts(self, part: Part) -> dict[str, int]:
        """Entry name -> number of its items in a part; 0 for a Python objective, whose items are not known before."""
        return {
            entry.name: sum(len(self.content.numbered(leaf.name, part)) for leaf in entry.leaves if not entry.python)
            for entry in self.entries
        }

    def digests(self) -> dict[str, str]:
        """Leaf name -> SHA-256 of its configuration, prompts and documents, or of an objective's source file."""
        found = {name: leaf.digest for name, leaf in self.content.leaves.items()}
        return found | {name: objective.digest for name, objective in self.content.objectives.items()}

    def blocks(self, part: Part) -> tuple[Block, ...]:
        """The part's blocks, in the order to score them in."""
        return self._blocks[part]

    def check(self, model: Any) -> tuple[str, ...]:
        """Warnings for prompts that are longer than the model takes.

        Raises:
            UserError: a task that this model cannot be scored on at all, because an answer is longer than it takes.
        """
        from .scoring.scoring_loop import check_fits

        self.content.lm.attach(model)
        warnings = check_fits(self.content)
        self._checked_length = self.content.lm.max_length
        return warnings

    def check_scorers(self, candidates: Candidates) -> ScoringReport:
        """Choose each task's scorer by comparing items with lm-eval's own, and keep to it from now on.

        Args:
            candidates: gives (name, load) pairs; load() puts the weights in place and returns the model. Called again
                when a scorer was refused, so that its successor is held against all of them.

        Raises:
            ScoringError: lm-eval can score none of them.
        """
        from .checks.self_check import SelfCheck
        from .lm_eval_bridge.isolation import inside_lm_eval

        with inside_lm_eval():
            report = SelfCheck(self.content, self._scorer, self._token_budget).run(candidates)
        self.use(report.plan)
        return report

    def use(self, plan: ScoringPlan) -> None:
        """Score by a plan that was chosen before, in another process or session."""
        self._plan, self._loop = plan, None
        if plan.batch_size is not None:
            self.content.lm.batch_size_per_gpu = plan.batch_size

    @property
    def scorers(self) -> dict[str, str]:
        """Task -> what it is scored by; empty before that is settled."""
        return {} if self._plan is None else {leaf: str(scorer) for leaf, scorer in self._plan.scorers.items()}

    def score(self, model: Any, block: Block, *, weights: object = None) -> BlockScores:
        """Score one block with the model's present weights.

        The model may be overwritten in place between calls. `weights` is a name for its present ones, such as a number
        that counts the candidates: from one call to the next with the same name, what was computed of the prompts'
        shared starts is kept. With None nothing is kept. Where no scorers have been chosen yet, they are chosen on this
        model.

        Raises:
            ScoringError: this candidate cannot be scored: non-finite outputs, a metric or objective that fails, or
                too little memory.
            UserError: see `check`; raised before the first block of a model.
        """
        from .scoring.scoring_loop import Loop

        self.content.lm.attach(model)
        if self._checked_length != self.content.lm.max_length:
            self.check(model)
        if self._plan is None:
            self.check_scorers(lambda: [("this model", lambda: model)])
        assert self._plan is not None, "Should not reach."
        shape = (self.content.lm.max_length, model.device)
        if self._loop is None or self._shape != shape:
            self._loop, self._shape = Loop(self.content, self._plan), shape
        return self._loop.score(model, block, weights)

    def gold_losses(self, model: Any, items: Mapping[str, Sequence[int]], *, tokens: int = 4096) -> GoldLosses:
        """Return differentiable losses of the gold answers of some items, as `Block.items` names them.

        Args:
            model: of the candidates' shape; its weights do not matter.
            items: task -> document ids.
            tokens: the most tokens in a batch, padding included.
        """
        from .gold.gold_losses import GoldLosses

        packed = frozenset(leaf for leaf, scorer in self.scorers.items() if scorer.startswith("packed"))
        return GoldLosses(self.content, model, items, tokens=tokens, packed=packed)

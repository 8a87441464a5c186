"""The runs that scale_out.py measures: tiny models, a search.yaml, and a pool that answers at once."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from tiny_models import write_family  # noqa: E402

from mergesmith.evaluators import BlockScores, ItemScores, ScoringPlan  # noqa: E402
from mergesmith.optimizer.pools import BlockDone, Event, Finished, Job  # noqa: E402
from mergesmith.optimizer.run_folder.trial import Trial  # noqa: E402
from mergesmith.optimizer.search.watcher import Watcher  # noqa: E402
from mergesmith.optimizer.session.session import Session  # noqa: E402

MODELS = ("a", "b", "c")
TASKS = ("first", "second", "third")
DOCUMENTS = 3334  # of all tasks; 60 %, about 2,000, are search items
# 60 numbers: the weights of 3 models, in 4 groups of tensors, at 5 places over the depth.
SPACE = {"methods": ["task_arithmetic"], "knots": 5, "filters": ["self_attn", "mlp", "embed"]}
COINS = 0.002
SEEDS = {"coins": 0, "answers": 1, "candidates": 2}


def write_search(folder: Path, tasks: list[Any], **changes: Any) -> Path:
    """Write models and a search.yaml, whose top-level keys `changes` replace; returns the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    write_family(folder, "llama", layers=5)
    document: dict[str, Any] = {
        "version": 1,
        "base_model": "./base",
        "models": [f"./{name}" for name in MODELS],
        "task_path": ["./tasks"],
        "tasks": tasks,
        "space": SPACE,
        "search": {"sampler": "tpe", "trials": 100, "seed": 0},
        "workers": {"threads": 1},
        "output": "./run",
    }
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump({**document, **changes}, sort_keys=False))
    return path


def write_tasks(folder: Path) -> list[str]:
    """Write tasks with three choices each, and their data; returns their names."""
    draw = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)

    def word(length: int) -> str:
        return "".join(draw.choice("abcdefgh") for _ in range(length))

    for i, name in enumerate(TASKS):
        count = DOCUMENTS // len(TASKS) + (i < DOCUMENTS % len(TASKS))
        documents = [
            {"question": f"{n} {word(4)}", "choices": [word(2) for _ in range(3)], "answer": draw.randrange(3)}
            for n in range(count)
        ]
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(document) + "\n" for document in documents))
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data.resolve())}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}=",
            "doc_to_choice": "choices",
            "doc_to_target": "answer",
            "target_delimiter": "",
            "num_fewshot": 0,
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task, sort_keys=False))
    return list(TASKS)


@dataclass(frozen=True)
class Spent:
    """Seconds: of this process on a core, and on the clock."""

    cpu: float = 0.0
    wall: float = 0.0

    @classmethod
    def now(cls) -> Spent:
        return cls(time.process_time(), time.perf_counter())

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.cpu + other.cpu, self.wall + other.wall)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.cpu - other.cpu, self.wall - other.wall)


@dataclass
class Meter:
    """Adds up what calls spend."""

    total: Spent = Spent()

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, metered."""

        def metered(*args: Any, **kwargs: Any) -> Any:
            start = Spent.now()
            try:
                return function(*args, **kwargs)
            finally:
                self.total += Spent.now() - start

        return metered


class InstantPool:
    """A pool whose workers answer at once, with made-up 0/1 scores: what a search spends on it is the driver's.

    Few items are coins to every candidate, the rest have an answer that all give alike: so nearly all candidates are
    scored in full. `meter` has what the making up takes, `blocks` what the driver spends between block and answer.
    """

    def __init__(self, session: Session, size: int) -> None:
        self.session, self.size = session, size
        self.meter, self.blocks = Meter(), Meter()
        self.worker_counts = (size, size)
        self._jobs: deque[tuple[Job, int, Mapping[str, np.ndarray]]] = deque()  # with the next block and the scores
        self._stopped, self._handed = False, Spent.now()
        self.submit, self.next_event = self.meter.around(self._submit), self.meter.around(self._next_event)
        self._known = self._frame()

    @property
    def free(self) -> int:
        """How many workers have no job."""
        return self.size - len(self._jobs)

    def _submit(self, job: Job, *, avoid: Collection[str] = ()) -> None:
        draw = np.random.default_rng([SEEDS["candidates"], job.number])
        made = {
            leaf: np.where(coins, draw.random(len(coins)) < 0.5, answers)
            for leaf, (coins, answers) in self._known.items()
        }
        self._jobs.append((job, 0, made))

    def _next_event(self) -> Event:
        """The next block of the job that was begun first, or its end."""
        job, index, made = self._jobs.popleft()
        blocks = self.session.suite.blocks(job.part)
        if self._stopped or index == len(blocks):
            self._stopped = False
            return Finished(job.number, "w1")
        found = {
            leaf: ItemScores(tuple(map(str, ids)), made[leaf][list(ids)].astype(np.float64))
            for leaf, ids in blocks[index].items.items()
        }
        self._jobs.appendleft((job, index + 1, made))
        self._handed = Spent.now()
        return BlockDone(job.number, BlockScores(job.part, index, found, 0.1), 1.0)

    def answer(self, number: int, *, go_on: bool) -> None:
        """Say whether the job that was begun first goes on."""
        self.blocks.total += Spent.now() - self._handed
        self._stopped = not go_on

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(session, *args)`."""
        return function(self.session, *args)

    def use(self, plan: ScoringPlan) -> None:
        """Score by this plan."""
        self.session.suite.use(plan)

    def close(self) -> None:
        """Nothing to let go."""

    def _frame(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Leaf -> which of its documents are coins, (n,) bool, and the common answers to the others, (n,)."""
        found = {}
        blocks = self.session.suite.blocks("search")
        for leaf in TASKS:
            size = 1 + max(doc for block in blocks for doc in block.items.get(leaf, (0,)))
            coins = np.random.default_rng(SEEDS["coins"]).random(size) < COINS
            found[leaf] = coins, np.random.default_rng(SEEDS["answers"]).random(size) < 0.6
        return found


class Quiet(Watcher):
    """A watcher that prints nothing; `each(trial)` is called after every trial."""

    def __init__(self, each: Callable[[Trial], None] = lambda trial: None) -> None:
        self.each = each

    def finished(self, trial: Trial, best: Trial | None) -> None:
        """A trial is over."""
        self.each(trial)

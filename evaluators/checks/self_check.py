"""The choice of each task's scorer: the fastest that agrees with lm-eval's on sampled items of all candidates.

A scorer that disagrees (see `agreement.py`) on one candidate is replaced by the next slower one for all candidates,
and all are checked again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mergesmith.errors import UserError

from ..inference.device_errors import is_device_lost, release
from ..lm_eval_bridge.isolation import pinned_generation
from ..records import ScoringError
from ..scoring.scorers import Scorer, ScoringPlan
from ..scoring.token_budget import CPU_BUDGET
from ..tasks.suite_content import SuiteContent
from .agreement import too_many
from .candidate_check import CandidateCheck, ScorerComparison
from .report import ScoringReport, TaskCheck
from .task_ladder import TaskLadder

# Yields (name, load); load() puts a candidate's weights in place and returns the model.
Candidates = Callable[[], Iterable[tuple[str, Callable[[], Any]]]]
Comparisons = Mapping[str, list[ScorerComparison]]  # leaf name -> one for each candidate

SAMPLE_ITEMS = 8  # per task
LEAST_SAMPLE_ITEMS = 2  # per task of a group, whose tasks share SAMPLE_ITEMS


class SelfCheck:
    """Compares scorers on the sampled items of every task. Must run inside `inside_lm_eval`."""

    def __init__(self, content: SuiteContent) -> None:
        self.content = content
        sizes = {leaf.name: len(entry.leaves) for entry in content.entries for leaf in entry.leaves}
        self._tasks = {
            name: TaskLadder(
                name,
                leaf,
                content.lm,
                choice=content.config.scoring.scorer,
                sample_size=max(LEAST_SAMPLE_ITEMS, SAMPLE_ITEMS // sizes[name]),
            )
            for name, leaf in content.leaves.items()
        }
        self._check = CandidateCheck(content)

    def run(self, candidates: Candidates) -> ScoringReport:
        """Check all candidates, repeatedly until no scorer is rejected.

        Raises:
            ScoringError: lm-eval can score none of the candidates.
            UserError: a task cannot be scored at all.
        """
        while True:
            before = self._scorers()
            comparisons: Comparisons = {name: [] for name in self._tasks}
            failures: list[tuple[str, ScoringError]] = []
            checked = 0
            for name, load in candidates():
                error = self._check_candidate(name, load, comparisons)
                if error is None:
                    checked += 1
                else:
                    failures.append((name, error))
                    release()
            if failures and not checked:
                raise failures[0][1]
            rejected = self._reject_generations(comparisons)
            # A scorer that replaced another during this round has not been checked on the candidates before.
            if not rejected and (checked < 2 or before == self._scorers()):
                return self._report(comparisons, failures)

    def _check_candidate(self, name: str, load: Callable[[], Any], comparisons: Comparisons) -> ScoringError | None:
        """Add a candidate's comparisons, or return the error if it cannot be scored; the check then omits it."""
        try:
            model = load()
            self.content.lm.attach(model)
            with pinned_generation(model, self.content.lm.tokenizer):
                self._check.fit_budget(model)
                for leaf, task in self._tasks.items():
                    comparisons[leaf].append(self._check.compare(task, model, name))
        except UserError:
            raise
        except ScoringError as error:
            return ScoringError(str(error))  # without the traceback, which keeps tensors alive
        except Exception as error:
            if is_device_lost(error):
                raise
            return ScoringError(f"{type(error).__name__}: {error}")
        return None

    def _reject_generations(self, comparisons: Comparisons) -> bool:
        """Reject our generation scorers if too many answers of a configured task differ, over leaves and candidates."""
        rejected = False
        for entry in self.content.entries:
            tasks = [self._tasks[leaf.name] for leaf in entry.leaves if leaf.name in self._tasks]
            ours = [task for task in tasks if task.scorer.name in ("graphs", "loop")]
            differing_items = {
                task.name: [item for c in comparisons[task.name] for item in c.differing] for task in ours
            }
            differing = sum(map(len, differing_items.values()))
            compared = sum(c.compared for task in ours for c in comparisons[task.name])
            if not too_many(differing, compared):
                continue
            for task in ours:
                if differing_items[task.name]:
                    share = f"{differing} of {compared} generated answers of '{entry.name}' differ"
                    task.reject(f"{share}, such as: {differing_items[task.name][0]}")
                    rejected = True
        return rejected

    def _scorers(self) -> dict[str, Scorer]:
        return {name: task.scorer for name, task in self._tasks.items()}

    def _report(self, comparisons: Comparisons, failures: Sequence[tuple[str, ScoringError]]) -> ScoringReport:
        plan = ScoringPlan(self._scorers(), self._check.budget or CPU_BUDGET, self.content.lm.batch_size_per_gpu)
        unchecked = tuple(f"{name} takes no part in the check of the scorers: {error}" for name, error in failures)
        checks = {name: _task_check(task, comparisons[name]) for name, task in self._tasks.items()}
        return ScoringReport(plan, checks, unchecked)


def _task_check(task: TaskLadder, comparisons: Sequence[ScorerComparison]) -> TaskCheck:
    return TaskCheck(
        scorer=task.scorer,
        compared=sum(comparison.compared for comparison in comparisons),
        largest=max((comparison.largest for comparison in comparisons), default=0.0),
        differing=tuple(item for comparison in comparisons for item in comparison.differing),
        rejected=task.rejected,
        forced=next((comparison.forced for comparison in comparisons if comparison.forced), ""),
    )

"""The memory and time that a run takes, measured for `mergesmith plan`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...evaluators import PARTS, Block, Suite
from ...merge_ops import kernel_report
from ..search.racing import why_off
from ..search.verdict.final_phase import FINALISTS, items_afterwards
from ..session.session import Session
from ..session.source_placement import decomposed_bytes
from ..terminal.durations import duration


@dataclass(frozen=True)
class Costs:
    """What a run takes: memory in bytes, time in seconds.

    Attributes:
        sources, live_model, decomposed: sizes of the sources, the live model, and merged matrices that are kept.
        first_merge, merge, score: times to merge the first candidate of a kind and every other one, and to score one.
        phases: the time of each phase of the run.
    """

    sources: int
    live_model: int
    decomposed: int
    first_merge: float
    merge: float
    score: float
    phases: dict[str, float]

    def sentences(self, session: Session) -> Iterator[str]:
        """Yield the costs in words."""
        kept = f"; merged matrices of methods that decompose: {_size(self.decomposed)}" if self.decomposed else ""
        devices = f"Device{'s' if len(session.devices) > 1 else ''}: {', '.join(map(str, session.devices))}"
        sources, model = _size(self.sources), _size(self.live_model)
        yield f"{devices}. Sources: {sources}, {session.placement.words}; live model: {model}{kept}."
        yield from session.placement.sentences()
        yield from session.pinning.sentences(session.bank)
        yield kernel_report(session.device.type)
        once, merge = f"{self.first_merge:.2f} s the first of a kind", f"{self.merge:.2f} s to merge"
        yield f"A candidate: {merge} ({once}), {self.score:.2f} s to score."
        yield f"Statistics of the sources: {_size(session.bank.known_bytes)} so far."
        parts = ", ".join(f"{duration(seconds)} for {name}" for name, seconds in self.phases.items())
        yield f"Time: about {duration(sum(self.phases.values()))}: {parts}; {_racing(session)}."

    def to_document(self) -> dict[str, Any]:
        """Return the costs as plain values."""
        return {**vars(self), "seconds": sum(self.phases.values())}


def measure_costs(session: Session, before: float) -> Costs:
    """Merge the baselines and score the largest blocks; `before` is the time of loading and of the scorers' check."""
    session.candidate.timed_load(session.baselines[0][1])  # builds the model, once per run
    # The first round includes one-time work (statistics, compiling); the second is the cost of every candidate.
    once, merge = (max(session.candidate.timed_load(recipe) for _, recipe in session.baselines) for _ in range(2))
    score = _seconds_to_score(session)
    return Costs(
        sources=session.source_bytes(),
        live_model=sum(p.numel() * p.element_size() for p in session.live.model.parameters()),
        decomposed=decomposed_bytes(session.bank, session.config.base_model, session.space.methods),
        first_merge=once,
        merge=merge,
        score=score,
        phases=_phases(session, before, merge, score),
    )


def _phases(session: Session, before: float, merge: float, score: float) -> dict[str, float]:
    """Return the time of loading, baselines, candidates and verdict."""
    baselines, trials = len(session.baselines), session.config.search.trials
    items = {part: sum(session.suite.counts(part).values()) for part in PARTS}
    per_item = score / max(1, items["search"])
    verdict = items_afterwards(session.suite, len(session.config.models)) * per_item + (FINALISTS + baselines) * merge
    return {
        "loading and checking the scorers": before,
        f"{baselines} baselines": baselines * (merge + score),
        f"{trials} candidates": trials * (merge + score),
        "the verdict": verdict,
    }


def raced_and_other_blocks(suite: Suite) -> list[list[Block]]:
    """Return the blocks of the search part that are raced, and the others; without an empty list."""
    raced = {leaf.name for entry in suite.entries if entry.raced for leaf in entry.leaves}
    kinds: dict[bool, list[Block]] = {}
    for block in suite.blocks("search"):
        kinds.setdefault(block.items.keys() <= raced, []).append(block)
    return list(kinds.values())


def _seconds_to_score(session: Session) -> float:
    """Return the time to score the live model on the search part, measured on its largest blocks."""
    total = 0.0
    for blocks in raced_and_other_blocks(session.suite):
        largest = max(blocks, key=len)
        session.suite.score(session.live.model, largest)  # warm-up
        start = time.perf_counter()
        session.suite.score(session.live.model, largest)
        seconds = time.perf_counter() - start
        total += seconds * max(1, sum(len(block) for block in blocks)) / max(1, len(largest))
    return total


def _racing(session: Session) -> str:
    """Return what racing saves, in words."""
    entries = session.suite.entries
    if (off := why_off(session.config.search.racing, entries)) is not None:
        return f"no candidate is dropped early: {off}"
    last = [entry.name for entry in entries if not entry.raced]
    others = f"; those are not scored on {', '.join(last)}" if last else ""
    return f"less if candidates are dropped early{others}"


def _size(nbytes: int) -> str:
    """Return text such as '1.20 GB' or '3.4 MB'."""
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.1f} MB"

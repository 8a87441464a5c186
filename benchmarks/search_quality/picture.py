"""Draws a run as an SVG: the incumbent's score against the item scores spent, with the stages marked.

python -m benchmarks.search_quality.picture RUN_DIR docs/explanation/search-run.svg
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from mergesmith.optimizer.run_folder.run_folder import RunFolder
from mergesmith.optimizer.run_folder.trial import Trial

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 360, 60, 20, 50, 45
COLOURS = ("#f3f4f6", "#e8eefb")  # of stages, in turn


def main(run: Path, out: Path) -> None:
    """Write the picture of a finished run."""
    out.write_text(picture(RunFolder(run).trials()), encoding="utf-8")


def picture(trials: Sequence[Trial]) -> str:
    """Return the SVG of a run's trials in the order in which they finished."""
    spent, best, steps, dots, stages = 0, float("-inf"), [], [], []
    for trial in trials:
        stage = trial.stage or "baselines"
        if not stages or stages[-1][0] != stage:
            stages.append((stage, spent))
        spent += trial.items if trial.repeats is None else 0
        value = trial.estimate if trial.dropped and trial.estimate is not None else trial.value
        if value is not None:
            dots.append((spent, value, trial.complete))
        if trial.complete and trial.value is not None and trial.value > best:
            best = trial.value
            steps.append((spent, best))
    steps.append((spent, best))
    low = min(value for _, value in steps) - 0.02
    high = best + 0.02

    def x(items: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * items / spent

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - max(low, value)) / (high - low)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">']
    parts.append(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>')
    ends = [*(start for _, start in stages[1:]), spent]
    for i, ((stage, start), end) in enumerate(zip(stages, ends, strict=True)):
        width = x(end) - x(start)
        parts.append(
            f'<rect x="{x(start):.1f}" y="{TOP}" width="{width:.1f}" height="{HEIGHT - TOP - BOTTOM}" '
            f'fill="{COLOURS[i % 2]}"/>'
        )
        if width > 9 * len(stage) * 0.6:
            parts.append(
                f'<text x="{(x(start) + x(end)) / 2:.1f}" y="{TOP - 8}" font-size="11" text-anchor="middle">'
                f"{escape(stage)}</text>"
            )
    for items, value, complete in dots:
        fill = "#64748b" if complete else "none"
        parts.append(
            f'<circle cx="{x(items):.1f}" cy="{y(value):.1f}" r="2.5" fill="{fill}" stroke="#64748b" stroke-width="1"/>'
        )
    line = f"M{x(steps[0][0]):.1f},{y(steps[0][1]):.1f}"
    for items, value in steps[1:]:
        line += f" H{x(items):.1f} V{y(value):.1f}"
    parts.append(f'<path d="{line}" fill="none" stroke="#1d4ed8" stroke-width="2.2"/>')
    levels = (low + (high - low) * k / 4 for k in range(5))
    parts += [
        f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" font-size="11" text-anchor="end">{value:.3f}</text>'
        for value in levels
    ]
    parts += [
        f'<text x="{x(items):.1f}" y="{HEIGHT - BOTTOM + 18}" font-size="11" text-anchor="middle">{items:,}</text>'
        for items in (spent * k // 4 for k in range(5))
    ]
    parts.append(
        f'<text x="{(WIDTH + LEFT) / 2}" y="{HEIGHT - 8}" font-size="12" text-anchor="middle">item scores spent '
        "(a gradient counts as three per item)</text>"
    )
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

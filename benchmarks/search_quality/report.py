"""The tables of docs/explanation/search-quality.md, made of what results there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from .arms import ARMS, REFERENCE, REPLAYED
from .compare import Comparison
from .figures import TOTALS, figures
from .records import Outcome, Outcomes
from .truth import UNSEEN, Truth

BEGIN = "<!-- begin of tables: written by `python -m benchmarks.search_quality report --write` -->"
END = "<!-- end of tables -->"


def tables(truths: dict[str, Truth], outcomes: Outcomes) -> str:
    """All tables in Markdown; `truths` is problem name -> its scores."""
    parts = [_known(truths, outcomes)]
    parts += [_searches(name, truth, outcomes) for name, truth in truths.items()]
    parts.append(_claims(truths, outcomes))
    return "\n\n".join(filter(None, parts))


def write(path: Path, text: str) -> None:
    """Put the tables between the page's marks.

    Raises:
        ValueError: the page lacks the marks.
    """
    page = path.read_text(encoding="utf-8")
    before, mark, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"{path} must hold the lines '{BEGIN}' and '{END}'")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def _known(truths: dict[str, Truth], outcomes: Outcomes) -> str:
    searched = [arm for arm in (*REPLAYED, *ARMS) if any(outcomes.of(t.folder.name, arm) for t in truths.values())]
    head = ["problem", "base", "best parent", "uniform", *(f"total {total:g}" for total in TOTALS), "known", *searched]
    rows = []
    for name, truth in truths.items():
        found = figures(truth)
        parents = [value for label, value in found.items() if label.startswith("parent ")]
        known = [value for label, value in found.items() if label.startswith("known: ")]
        row = [name, _points(found["base"]), _points(max(parents)), _points(found["uniform"])]
        row += [_points(found[f"total {total:g}"]) for total in TOTALS]
        row.append(_points(max(known)) if known else "")
        for arm in searched:
            finals = [outcome.final for outcome in outcomes.of(truth.folder.name, arm)]
            row.append(_points(float(np.mean(finals))) if finals else "")
        rows.append(row)
    return "## True scores\n\n" + _table(head, rows)


def _searches(name: str, truth: Truth, outcomes: Outcomes) -> str:
    reference = outcomes.of(truth.folder.name, REFERENCE)
    if not reference:
        return ""
    by_arm = {arm: found for arm in (*REPLAYED, *ARMS) if (found := outcomes.of(truth.folder.name, arm))}
    comparison = Comparison(truth, [outcome.recipe for found in by_arm.values() for outcome in found])
    goal, budget = float(np.mean([o.final for o in reference])), float(np.mean([o.items for o in reference]))
    head = ["arm", "seeds", "true score at the end", "less random"]
    head += ["less the best baseline", "less the best in hindsight", "goal reached by"]
    head += ["item scores to the goal", "item scores spent", "seconds"]
    rows = []
    for arm, found in by_arm.items():
        digests = [outcome.recipe for outcome in found]
        finals = [o.final for o in found]
        reached = [items for o in found if (items := o.reached(goal)) is not None]
        seconds = [o.seconds for o in found if o.seconds is not None]
        rows.append(
            [
                f"{arm}, {found[0].trials}",
                str(len(found)),
                _interval(finals),
                "" if arm == REFERENCE else _welch(finals, [o.final for o in reference]),
                str(comparison.cross_fitted(digests)),
                str(comparison.hindsight(digests)),
                f"{len(reached)} of {len(found)}",
                f"{np.median(reached) / budget:.1%}" if reached else "never",
                f"{np.mean([o.items for o in found]) / budget:.0%}",
                f"{np.median(seconds):.0f}" if seconds else "replayed",
            ]
        )
    about = (
        f"Goal: the mean true score of random search at its end, {goal:.3f}; 100 % are {budget:,.0f} item scores. "
        f"The {sum(truth.count(part) for part in UNSEEN):,} unseen items know a difference between two recipes to "
        f"± {comparison.item_noise():.3f}."
    )
    return f"## {name}\n\n{about}\n\n{_table(head, rows)}"


def _claims(truths: dict[str, Truth], outcomes: Outcomes) -> str:
    rows = []
    for arm in ARMS:
        row = [arm]
        for truth in truths.values():
            claims = [o.claims for o in outcomes.of(truth.folder.name, arm) if o.claims is not None]
            row.append(f"{sum(claims)} of {len(claims)}" if claims else "")
        if any(row[1:]):
            rows.append(row)
    about = (
        "How many searches end with a verdict that calls the winner better than the best parent, the uniform average "
    )
    about += "or the best baseline. On `equal` every such claim is false."
    return f"## Claims\n\n{about}\n\n{_table(['arm', *truths], rows)}" if rows else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _points(value: float) -> str:
    return f"{value:.3f}"


def _interval(values: Sequence[float]) -> str:
    """The mean with its 95 % t interval over seeds."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return f"{mean:.3f}"
    half = float(student.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return f"{mean:.3f} ± {half:.3f}"


def _welch(first: Sequence[float], second: Sequence[float]) -> str:
    """The difference of two means with Welch's 95 % t interval."""
    mean = float(np.mean(first) - np.mean(second))
    if min(len(first), len(second)) < 2:
        return f"{mean:+.3f}"
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (first, second)]
    variance = sum(parts)
    if variance == 0:
        return f"{mean:+.3f} ± 0.000"
    freedom = variance**2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, (first, second), strict=True))
    return f"{mean:+.3f} ± {float(student.ppf(0.975, freedom)) * math.sqrt(variance):.3f}"


def summary(outcome: Outcome) -> str:
    """One line for the terminal."""
    spent = f"{outcome.items:,} item scores"
    claims = {None: "", True: ", claims to be better", False: ", claims nothing"}[outcome.claims]
    seconds = "" if outcome.seconds is None else f", {outcome.seconds:.0f} s"
    return f"{outcome.problem} {outcome.arm} seed {outcome.seed}: {outcome.final:.3f} after {spent}{claims}{seconds}"

"""The tables of merge_speed.py, as markdown; mergekit's cells are empty if it was not run."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from merge_speed_cases import COPIES, DISK_FASTER, EXTRA_MEMORY, FASTER, TINY_SECONDS

Figure = dict[str, Any]
MIB = 2**20
BUSY = 0.9  # cores: a program that keeps fewer busy was waiting for a core or for the disk
ALIKE = 0.02  # the relative difference between the two results' distances from the base up to which none is reported


def seconds(value: float) -> str:
    """Format a time with two or three digits, in seconds or milliseconds."""
    return f"{number(value)} s" if value >= 1 else f"{number(1000 * value)} ms"


def number(value: float) -> str:
    """Format a number with at least two digits, without an exponent."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}" if value < 1 else f"{value:.1f}"


def bold(text: str, missed: bool) -> str:
    return f"**{text}**" if missed else text


def at_least(goal: float, theirs: Figure | None, ours: Figure) -> tuple[str, str]:
    """Return how many times as fast as mergekit it is, and the goal, as cells."""
    if theirs is None:
        return "", f"{goal}x"
    ratio = median(theirs["seconds"]) / median(ours["seconds"])
    return bold(f"{number(ratio)}x", ratio < goal), f"{goal}x"


def table(head: str, rows: list[list[str]]) -> str:
    columns = head.count("|") + 1
    return "\n".join(
        [f"| {head} |", "| --- |" + " ---: |" * (columns - 1), *(f"| {' | '.join(row)} |" for row in rows)]
    )


def candidate_table(
    mergekit: Mapping[str, Figure], rounded: Mapping[str, Figure], mergesmith: Mapping[str, Figure]
) -> str:
    """Return the table with one row per method: the time of a candidate after the bank is built."""
    head = "per candidate | mergekit | mergesmith | faster | at least | mergekit in bfloat16 | faster | copies"
    head += " | times that | at most | extra MiB | bank"
    rows, notes = [], []
    for name, ours in mergesmith.items():
        theirs = mergekit.get(name)
        spent, copies = median(ours["seconds"]), median(ours["copies"])
        limit, extra, kept = COPIES.get(name), ours["peak"] / MIB, max(0, ours["kept"]) / MIB
        rows.append(
            [
                name,
                seconds(median(theirs["seconds"])) if theirs else "",
                seconds(spent),
                *at_least(FASTER[name], theirs, ours),
                seconds(median(rounded[name]["seconds"])) if name in rounded else "",
                at_least(0, rounded.get(name), ours)[0],
                seconds(copies),
                bold(f"{number(spent / copies)}x", limit is not None and spent / copies > limit),
                "" if limit is None else f"{limit}x",
                bold(f"{extra:.0f}", ours["peak"] > EXTRA_MEMORY),
                f"{seconds(ours['first'])}, {ours['first_peak'] / MIB:.0f} MiB, {kept:.0f} MiB kept",
            ]
        )
        if theirs and abs(ours["distance"] / theirs["distance"] - 1) > ALIKE:
            notes.append(f"{name} {theirs['distance']:.4g} and {ours['distance']:.4g}")
    model = median([ours["model"] for ours in mergesmith.values()])
    text = f"{table(head, rows)}\n\nThe live model is built in {seconds(model)}. Extra memory: at most "
    text += f"{EXTRA_MEMORY // MIB} MiB is the goal; bank: the time of the first candidate, its extra memory, "
    text += "and how much of it is kept."
    for side, figures in (("mergekit", mergekit), ("mergesmith", mergesmith)):
        if waited := [name for name, found in figures.items() if found.get("busy", 1.0) < BUSY]:
            text += f"\nNot to be trusted, {side} waited for a core or the disk: {', '.join(waited)}."
    if notes:
        text += f"\nThe results' distances from the base (L2) differ by more than {ALIKE:.0%}: "
        text += f"{'; '.join(notes)}."
    return text


def tiny_table(
    tensors: int, mergekit: Mapping[str, Figure], ours: Mapping[str, Figure], disk: tuple[Figure | None, Figure]
) -> str:
    """Return the table of many tiny tensors: the cost of a tensor apart from its bytes."""
    spent = median(ours["linear"]["seconds"])
    cells = [seconds(median(found["seconds"])) if found else "" for found in (mergekit.get("linear"), *disk)]
    head = "linear | mergekit in memory | mergekit from disk | mergesmith from disk | live model | at most"
    row = [f"{tensors:,} tiny tensors", *cells, bold(seconds(spent), spent > TINY_SECONDS), seconds(TINY_SECONDS)]
    return table(head, [row])


def disk_table(rows: Mapping[str, tuple[Figure | None, Figure]], start_up: tuple[Figure | None, Figure]) -> str:
    """Return the table of whole commands, and of those over the smallest checkpoint."""
    lines = [
        [
            name,
            seconds(median(theirs["seconds"])) if theirs else "",
            seconds(median(ours["seconds"])),
            *at_least(DISK_FASTER[name], theirs, ours),
        ]
        for name, (theirs, ours) in rows.items()
    ]
    starts = [seconds(median(found["seconds"])) if found else "" for found in start_up]
    lines.append(["start-up (a tiny model)", *starts, "", ""])
    return table("from disk to disk, no bank | mergekit-yaml | mergesmith merge | faster | at least", lines)


def profile_text(checkpoint: str, profiles: Mapping[str, Figure]) -> str:
    """Return the shares of the stages, and the functions that take the most time themselves."""
    lines = []
    for name, found in profiles.items():
        total = sum(found["stages"].values())
        shares = sorted(found["stages"].items(), key=lambda item: -item[1])
        times = f"{seconds(median(found['seconds']))}; under the profiler {seconds(total)}"
        lines += [f"{name} on {checkpoint}: a candidate takes {times}.", ""]
        lines += [f"* {stage} {share / total:.1%}" for stage, share in shares]
        lines += ["", "| own time | function |", "| ---: | --- |"]
        lines += [*(f"| {own / total:.1%} | `{function}` |" for own, function in found["top"]), ""]
    return "\n".join(lines[:-1])

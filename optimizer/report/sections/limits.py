"""The limits that tasks set with `max_drop`: allowed, found, kept or broken."""

from __future__ import annotations

from ..facts import RunFacts
from ..section import Section, Table, decimals, interval, signed


def section(facts: RunFacts) -> Section:
    """Return the section: the winner's drops after the verdict, else how many candidates keep within each limit."""
    limited = [task for task in facts.config.tasks if task.max_drop is not None]
    content = {"limited": bool(limited), "table": None, "broken": [], "note": ""}
    if limited and facts.verdict is not None and facts.verdict.get("limits"):
        found = facts.verdict["limits"]
        content["broken"] = [limit["sentence"] for limit in found if not limit["kept"]]
        columns = ["task", "best parent", "allowed drop", "drop on search items", "drop on report items", "limit"]
        rows = [
            [
                limit["task"],
                limit["parent"].removeprefix("parent "),
                decimals(limit["allowed"]),
                signed(limit["search"]),
                f"{signed(limit['report']['value'])} {interval(limit['report']['low'], limit['report']['high'])}",
                "✓ kept" if limit["kept"] else "✗ broken",
            ]
            for limit in found
        ]
        content["table"] = Table(columns, rows, ["task", "best parent", "limit"])
    elif limited:
        whole = [trial for trial in facts.candidates if trial.complete]
        kept = sum(facts.keeps_limits(trial) for trial in whole)
        content["note"] = f"{kept:,} of {len(whole):,} candidates that were scored in full keep within all limits."
        content["table"] = Table(["task", "allowed drop"], [[t.name, decimals(t.max_drop)] for t in limited], ["task"])
    return Section("limits", "Limits", content)

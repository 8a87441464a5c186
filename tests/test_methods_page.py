"""docs/methods.md lists every method as it is declared."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_declaration_is_on_the_page() -> None:
    rows = runpy.run_path(str(ROOT / "benchmarks" / "method_table.py"))["method_rows"]()
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert [row for row in rows if row not in page] == [], "run benchmarks/method_table.py"

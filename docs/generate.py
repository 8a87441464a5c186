"""Write the generated parts of the reference pages: everything between their markers.

python docs/generate.py            # rewrite the pages
python docs/generate.py --check    # exit code 1 if a page is out of date
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before huggingface_hub is imported

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent), str(DOCS.parent / "tests" / "support")]

from generators import commands, merge_methods, samplers, search_yaml  # noqa: E402

MARK = "<!-- {} of {}: written by docs/generate.py -->"
REFERENCE = DOCS / "reference"
# (page, name of the part, the lines of the part)
PARTS: tuple[tuple[Path, str, Callable[[], Iterable[str]]], ...] = (
    (REFERENCE / "search-yaml.md", "keys", search_yaml.lines),
    (REFERENCE / "commands.md", "commands", commands.lines),
    (REFERENCE / "samplers.md", "samplers", samplers.lines),
    (REFERENCE / "methods.md", "methods", merge_methods.method_rows),
    (REFERENCE / "methods.md", "comparison", merge_methods.comparison_rows),
)


def rewritten(text: str, name: str, lines: Iterable[str]) -> str:
    """Return a page with the named part replaced."""
    begin, end = MARK.format("begin", name), MARK.format("end", name)
    head, rest = text.split(begin)
    # The blank line after the marker ends the HTML block, so that the table below it is read as Markdown.
    return f"{head}{begin}\n\n" + "\n".join(lines) + f"\n\n{end}{rest.split(end)[1]}"


def outdated(skip: tuple[str, ...] = ()) -> dict[Path, str]:
    """Return the new text of every page that is out of date; `skip` names parts to leave alone."""
    new: dict[Path, str] = {}
    for page, name, lines in PARTS:
        if name not in skip:
            new[page] = rewritten(new.get(page) or page.read_text(encoding="utf-8"), name, lines())
    return {page: text for page, text in new.items() if page.read_text(encoding="utf-8") != text}


def main() -> None:
    """Rewrite the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only report pages that are out of date")
    check = parser.parse_args().check
    for page, text in (found := outdated()).items():
        print(f"{page.relative_to(DOCS.parent)}: {'out of date; run docs/generate.py' if check else 'rewritten'}")
        if not check:
            page.write_text(text, encoding="utf-8")
    sys.exit(1 if check and found else 0)


if __name__ == "__main__":
    main()

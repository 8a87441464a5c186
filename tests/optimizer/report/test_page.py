"""The report as a whole: it is complete, escaped, small, the same twice, and readable whatever state a run is in."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_runs import WINNER, write_run

from mergesmith.errors import UserError
from mergesmith.optimizer.report.facts import gather
from mergesmith.optimizer.report.page import SECTIONS, page, write_report
from mergesmith.optimizer.run_folder.file_names import BEST, ENVIRONMENT, REPORT, TASKS, TRIALS, VERDICT

VOID = ("meta", "br", "hr", "img", "link", "input")
MODULES = [module.__name__.rpartition(".")[2] for module in SECTIONS]


class Page(HTMLParser):
    """Checks that elements are nested correctly; collects sections, addresses and the headline."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.addresses += [str(found[name]) for name in ("src", "href") if name in found]
        if tag == "section":
            self.sections.append(str(found["id"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)


def read(path: Path, **options: bool) -> Page:
    return Page(page(gather(path, **options)))


def text_of(path: Path, **options: bool) -> str:
    return " ".join(" ".join(read(path, **options).text).split())


def test_all_sections_of_a_finished_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 12)
    found = read(run.path)
    assert found.sections == MODULES
    text = " ".join(found.text)
    for part in ("better than the best parent", "once", f"winner: trial {WINNER}", "task_arithmetic", "McNemar"):
        assert part in text
    assert "No task has a limit" in text
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in found.addresses)


def test_the_same_run_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", 12)
    write_report(run.path, tmp_path / "first.html")
    monkeypatch.chdir(tmp_path)
    write_report(Path("run"), Path("second.html"))
    assert (tmp_path / "first.html").read_bytes() == (tmp_path / "second.html").read_bytes()


def test_texts_are_escaped_and_shown_on_request_only(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 6)
    html = page(gather(run.path, with_texts=True))
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "<b>" not in re.sub(r"<b>[\w ]+</b>", "", html)  # the method's name
    assert "<i>gsm8k" not in html
    text = text_of(run.path, with_texts=True)
    assert "gold&" in text
    assert f"<u>{WINNER}" in text
    assert "gold&" not in text_of(run.path)


@pytest.mark.parametrize("trials", [0, 1, 2, 40])
def test_a_run_without_a_verdict(trials: int, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", trials, verdict=False)
    text = text_of(run.path)
    assert "stopped before a verdict: the best so far is" in text
    assert "Scores on the search items" in text
    assert f"mergesmith search {run.path.name}/search.yaml --resume" in text


@pytest.mark.parametrize("left", [0, 1])
def test_a_run_without_baselines(left: int, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 1, verdict=False)
    lines = (run.path / TRIALS).read_text().splitlines(keepends=True)
    (run.path / TRIALS).write_text("".join(lines[:left]))
    (run.path / TASKS).unlink()
    assert read(run.path).sections == MODULES


def test_a_half_written_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 6)
    with (run.path / TRIALS).open("a") as file:
        file.write('{"schema_version":1,"num')
    (run.path / BEST).unlink()
    for file in (run.path / "items").glob("000[1-5].npz"):
        file.write_bytes(b"cut")
    assert read(run.path).sections == MODULES


@pytest.mark.parametrize("name", [VERDICT, TASKS, ENVIRONMENT])
def test_a_newer_schema_is_named(name: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 3)
    path = run.path / name
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 2}))
    with pytest.raises(UserError, match=rf"{name}.* schema version 2, but this program reads 1"):
        gather(run.path)
    path.write_text("{")
    with pytest.raises(UserError, match=name):
        gather(run.path)


def test_size_at_a_thousand_trials(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 1000, items=2000)
    write_report(run.path, tmp_path / REPORT, with_texts=True)
    assert (tmp_path / REPORT).stat().st_size < 1_000_000

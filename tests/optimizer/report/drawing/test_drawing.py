"""SVG elements, axes and PNG pictures."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import pytest
from markupsafe import Markup

from mergesmith.optimizer.report.drawing.axis import Axis
from mergesmith.optimizer.report.drawing.png import png_uri
from mergesmith.optimizer.report.drawing.svg import dots, element, plain, shortened


def test_elements_are_escaped() -> None:
    assert element("text", "<a&b>", class_="x", text_anchor='"') == Markup(
        '<text class="x" text-anchor="&#34;">&lt;a&amp;b&gt;</text>'
    )
    assert element("line", x1=1.25, y1=None) == Markup('<line x1="1.2"/>')
    assert dots([(1.0, 2.0), (3.04, 4.0)], "p") == Markup('<path d="M1 2h0M3 4h0" class="p"/>')


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (-0.01, "0"), (-10.0, "-10"), (2.04, "2"), (100.0, "100")])
def test_plain_numbers(value: float, text: str) -> None:
    assert plain(value) == text


def test_labels_are_cut_in_the_middle() -> None:
    assert shortened("short", 100) == "short"
    assert shortened("a-very-long-name-of-a-model", 66) == "a-ve…model"


@pytest.mark.parametrize("values", [[0.1, 0.9], [5.0], [], [float("nan"), 2.0], [-1e-9, 1e-9], [0.0, 1e7]])
def test_axes_have_round_ticks(values: list[float]) -> None:
    axis = Axis.around(values, 0, 100)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 7
    assert all(axis.low <= tick <= axis.high for tick in ticks)
    assert axis.at(axis.low) == 0
    assert axis.at(axis.high) == 100


def test_png_holds_the_cells() -> None:
    cells = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)
    data = base64.b64decode(png_uri(cells, [(0, 0, 0), (9, 9, 9), (255, 0, 0)]).partition(",")[2])
    assert data.startswith(b"\x89PNG")
    chunks, place = {}, 8
    while place < len(data):
        (size,) = struct.unpack(">I", data[place : place + 4])
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        assert struct.unpack(">I", data[place + 8 + size : place + 12 + size])[0] == zlib.crc32(kind + content)
        chunks[kind] = content
        place += size + 12
    assert struct.unpack(">II", chunks[b"IHDR"][:8]) == (3, 2)
    assert zlib.decompress(chunks[b"IDAT"]) == b"\0\0\1\2\0\2\1\0"

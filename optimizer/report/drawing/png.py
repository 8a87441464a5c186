"""A palette PNG as a data URI."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
BIT_DEPTH, PALETTE, LEVEL = 8, 3, 9


def png_uri(cells: np.ndarray, colours: Sequence[tuple[int, int, int]]) -> str:
    """Return a picture of (height, width) uint8 indices into at most 256 colours (red, green, blue)."""
    height, width = cells.shape
    raw = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(cells, dtype=np.uint8))  # \0: no row filter
    header = struct.pack(">IIBBBBB", width, height, BIT_DEPTH, PALETTE, 0, 0, 0)
    palette = bytes(part for colour in colours for part in colour)
    chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(raw, LEVEL)), (b"IEND", b""))
    data = SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

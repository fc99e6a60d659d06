"""Reads the data of a trace's page without a browser."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "crates" / "trace" / "tests" / "data"
SCENES = DATA / "scenes.vkmem"
HOSTILE = DATA / "hostile-names.vkmem"


def numbers(data: bytes, count: int, delta: bool) -> list[int]:
    """LEB128 numbers; with `delta` zigzag differences. They take all of `data`."""
    made, at, last = [], 0, 0
    for _ in range(count):
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if delta:
            last += -((value + 1) // 2) if value % 2 else value // 2
            value = last
        made.append(value)
    assert at == len(data)
    return made


class PageData:
    """The header, the columns and the texts of a page."""

    def __init__(self, page: str) -> None:
        header = re.search(
            r'<script type="application/json" id="header">(.*?)</script>', page, re.S
        )
        lump = re.search(r'id="lump">(.*?)</script>', page, re.S)
        assert header is not None and lump is not None
        self.header: dict[str, Any] = json.loads(header[1])
        body = zlib.decompress(base64.b64decode(lump[1], validate=True))
        self.columns: dict[str, list[int]] = {}
        at = 0
        for name, encoding, count, size in self.header["columns"]:
            self.columns[name] = numbers(body[at : at + size], count, encoding == "delta")
            at += size
        assert len(body) - at == self.header["texts"]
        self.texts: list[str] = json.loads(body[at:])

    def __getitem__(self, name: str) -> list[int]:
        return self.columns[name]

    def exists(self, table: str, moment: int) -> list[int]:
        """The rows of a table that exist after so many events."""
        begins, lives = self[f"{table}.begin"], self[f"{table}.life"]
        return [
            row
            for row, (begin, life) in enumerate(zip(begins, lives, strict=True))
            if begin < moment and (not life or moment <= begin + life)
        ]

    def heap_of(self, pool: int) -> int:
        return int(self.header["types"][self.header["pools"][pool]["type"]]["heap"])

    def held(self, moment: int) -> list[tuple[int, int]]:
        """Bytes held and live of each heap after so many events."""
        heaps = [[0, 0] for _ in self.header["heaps"]]
        for row in self.exists("memory", moment):
            heaps[self.heap_of(self["memory.pool"][row])][0] += self["memory.size"][row]
        for row in self.exists("place", moment):
            if not self["place.base"][row]:
                heaps[self.heap_of(self["place.pool"][row])][1] += self["place.size"][row]
        return [(held, live) for held, live in heaps]

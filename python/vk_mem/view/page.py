"""Assembles the HTML page: one file that loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from vk_mem.text import escaped, short
from vk_mem.trace import Trace
from vk_mem.view.columns import encode
from vk_mem.view.scene import Progress, Scene
from vk_mem.view.theme import DARK, LIGHT
from vk_mem.view.timeline import encode_trace

ASSETS = files("vk_mem.view").joinpath("assets")
SHARED = (
    "text.js",
    "inflate.js",
    "data.js",
    "state.js",
    "pixels.js",
    "bars.js",
    "map.js",
    "pointer.js",
    "table.js",
    "panels.js",
    "main.js",
)
"""In load order. They share one function scope, and so one set of names."""
DUMP = ("load.js",)
TRACE = tuple(
    f"time/{name}.js"
    for name in (
        *("decode", "history", "moment", "axis", "groups", "plot", "chart", "clock", "range"),
        *("gestures", "tip", "start", "load"),
    )
)
"""What only pages of dumps or of traces have, behind `SHARED`."""
STYLES = ("page.css", "time/time.css")
PARTS = ("below", "tabs", "range", "keys")
"""Markup that only pages of traces have, each in a file of its own."""


def write_page(scene: Scene, title: str | None, progress: Progress) -> Iterator[str]:
    """Yields the document in pieces; long data are compressed meanwhile."""
    header, lump = encode(scene, title, progress)
    return _document(
        "dump", header, lump, _script(DUMP), _style(STYLES[:1]), dict.fromkeys(PARTS, "")
    )


def write_trace_page(trace: Trace, title: str | None, progress: Progress) -> Iterator[str]:
    """Yields the document of a trace in pieces; its data are compressed meanwhile."""
    header, lump = encode_trace(trace, title, progress)
    parts = {name: _asset(f"time/{name}.html") for name in PARTS}
    return _document("trace", header, lump, _script(TRACE), _style(STYLES), parts)


def _document(
    kind: str,
    header: dict[str, Any],
    lump: Iterator[str],
    script: str,
    style: str,
    markup: dict[str, str],
) -> Iterator[str]:
    # A content security policy: only this script and this style apply, whatever a name contains.
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    )
    parts = {
        **markup,
        "kind": kind,
        "policy": policy,
        "title": escaped(short(header["title"])),
        "style": style,
        "script": script,
        # JSON has `<` only inside texts. It is escaped there, so that no text can end the element.
        "header": json.dumps(header, separators=(",", ":")).replace("<", "\\u003c"),
    }
    for number, piece in enumerate(re.split(r"\{\{(\w+)\}\}", _asset("page.html"))):
        if number % 2 == 0:
            yield piece
        elif piece == "lump":
            yield from lump
        else:
            yield parts[piece]


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _asset(name: str) -> str:
    return ASSETS.joinpath(name).read_text(encoding="utf-8")


@cache
def _script(more: tuple[str, ...]) -> str:
    inner = "\n".join(_asset(name) for name in (*SHARED, *more))
    return f'(() => {{\n"use strict";\n{inner}\n}})();\n'


@cache
def _style(names: tuple[str, ...]) -> str:
    def variables(theme: dict[str, str]) -> str:
        return "".join(f"--{name}:{colour};" for name, colour in theme.items())

    light, dark = variables(LIGHT), variables(DARK)
    return (
        f":root{{color-scheme:light;{light}}}\n"
        f"@media(prefers-color-scheme:dark){{:root{{color-scheme:dark;{dark}}}}}\n"
        f":root[data-theme=light]{{color-scheme:light;{light}}}\n"
        f":root[data-theme=dark]{{color-scheme:dark;{dark}}}\n" + "".join(map(_asset, names))
    )

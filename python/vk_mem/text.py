"""Formats numbers and names for errors, reprs, tables and pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vk_mem._lazy import load

__all__ = [
    "count_text",
    "counted",
    "escaped",
    "known_size",
    "nearest",
    "percent",
    "short",
    "size_text",
    "visible",
    "well_formed",
    "with_article",
]

NO_SIZE = 1 << 63
"""Bytes: no memory is this large. Drivers and dumps write 2^64 - 1 for an unknown usage."""


def counted(count: int, what: str, format: str = "d") -> str:
    """Formats a count with its noun: `1 byte`, `2 bytes`; with the format `,`: `12,000 blocks`."""
    return f"{count:{format}} {what}{'' if count == 1 else 's'}"


def known_size(size: int | None) -> int | None:
    """Returns a number of bytes, or None for a value that stands for "unknown"."""
    return None if size is None or size >= NO_SIZE else size


LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def well_formed(text: str) -> str:
    """Replaces lone surrogates with U+FFFD, so that every Unicode encoding can write the text."""
    if text.isascii():
        return text
    return LONE_SURROGATE.sub("\ufffd", text)


def with_article(noun: str) -> str:
    """Puts the indefinite article before a noun: `a Buffer`, `an Image`."""
    return f"{'an' if noun[:1] in 'aeiouAEIOU' else 'a'} {noun}"


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Returns up to `count` of the `known` names that are most similar to `name`, best first."""
    try:
        matches = load("difflib").get_close_matches(name[:80], list(known), count, 0.7)
    except ImportError:
        # At interpreter shutdown imports fail, and a missing hint is better than a second error.
        return []
    return [str(it) for it in matches]


# Characters that are invalid in XML, invisible, or change the direction of text: controls, lone
# surrogates, direction marks, zero-width characters and the two noncharacters.
ODD = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)
ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})
LONGEST = 200
"""Characters of a name in a picture; longer names are cut. A page has the whole name."""


def visible(text: str) -> str:
    """Spells out control characters and direction marks: `\\\\x00`, `\\\\u202e`."""
    if text.isascii() and text.isprintable():
        return text
    return ODD.sub(_spelled, text)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def escaped(text: str) -> str:
    """Escapes a text for XML and HTML, for content and quoted attributes."""
    return visible(text).translate(ENTITIES)


def short(text: str, length: int = LONGEST) -> str:
    """Cuts a text to `length` characters, with an ellipsis if it was longer."""
    return text if len(text) <= length else text[: length - 1] + "…"


def size_text(size: float) -> str:
    """Formats bytes with a binary unit: `64 B`, `16 KiB`, `1.5 MiB`."""
    if size < 1024:
        return f"{size:.0f} B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        value /= 1024
        if value < 1023.95:
            return f"{_rounded(value)} {unit}"
    return f"{_rounded(value / 1024)} EiB"


def _rounded(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def count_text(count: int, what: str) -> str:
    """Formats a count with its noun: `1 block`, `12,000 blocks`."""
    return counted(count, what, ",")


def percent(part: float, whole: float) -> str:
    """Formats a share: `37 %`. Only zero gives 0 %, and only the whole gives 100 %."""
    if not whole or not part:
        return "0 %"
    value = 100 * part / whole
    if value < 1:
        return "< 1 %"
    return f"{min(round(value), 99) if part < whole else round(value)} %"

"""Numbers and names as texts: for errors, reprs, tables and pictures."""

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
"""No memory has as many bytes. Drivers and dumps that do not know a usage say 2^64 - 1."""


def counted(count: int, what: str, format: str = "d") -> str:
    """`1 byte`, `2 bytes`; `12,000 blocks` with the format `,`."""
    return f"{count:{format}} {what}{'' if count == 1 else 's'}"


def known_size(size: int | None) -> int | None:
    """A number of bytes; None for one that says that it is not known."""
    return None if size is None or size >= NO_SIZE else size


LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def well_formed(text: str) -> str:
    """A text that every encoding of Unicode can write: lone surrogates become U+FFFD."""
    if text.isascii():
        return text
    return LONE_SURROGATE.sub("\ufffd", text)


def with_article(noun: str) -> str:
    """`a Buffer`, `an Image`."""
    return f"{'an' if noun[:1] in 'aeiouAEIOU' else 'a'} {noun}"


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Of `known` those that somebody may have meant who wrote `name`, the likest first."""
    try:
        matches = load("difflib").get_close_matches(name[:80], list(known), count, 0.7)
    except ImportError:
        # While the interpreter ends nothing is loaded any more, and a hint is not worth an error.
        return []
    return [str(it) for it in matches]


# What would break a document, hide, or turn the text around it: controls, surrogates that stand
# alone, marks of direction, invisible characters, the two non-characters that XML forbids.
ODD = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)
ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})
LONGEST = 200
"""Characters of a name that is put into a picture; the page has all of it."""


def visible(text: str) -> str:
    """A text with controls and marks of direction spelled out: `\\x00`, `\\u202e`."""
    if text.isascii() and text.isprintable():
        return text
    return ODD.sub(_spelled, text)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def escaped(text: str) -> str:
    """For XML and HTML, in text and in attributes of either quote."""
    return visible(text).translate(ENTITIES)


def short(text: str, length: int = LONGEST) -> str:
    """The beginning of it, with an ellipsis if there is more."""
    return text if len(text) <= length else text[: length - 1] + "…"


def size_text(size: float) -> str:
    """Bytes with a unit: `64 B`, `16 KiB`, `1.5 MiB`."""
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
    """`1 block`, `12,000 blocks`."""
    return counted(count, what, ",")


def percent(part: float, whole: float) -> str:
    """`37 %`. What is not zero does not read 0, what is not all does not read 100."""
    if not whole or not part:
        return "0 %"
    value = 100 * part / whole
    if value < 1:
        return "< 1 %"
    return f"{min(round(value), 99) if part < whole else round(value)} %"

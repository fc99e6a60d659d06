"""Sizes and names as people read them, safe in every output."""

from __future__ import annotations

import re
import unicodedata

from vk_mem.words import counted

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


# Of the letters from space to tilde, in hundredths of the font size: those of DejaVu Sans, which is
# wider than what most systems have.
WIDTHS = (
    32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 34, 34, 84, 84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79,
    60, 79, 69, 63, 61, 73, 68, 99, 69, 61, 69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35, 63,
    63, 28, 28, 58, 28, 97, 63, 61, 63, 63, 41, 52, 39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84,
)  # fmt: skip
BOLD = 1.15


def text_width(text: str, size: float, bold: bool = False) -> float:
    """About how wide a text is in a sans-serif font of that size. Rather too much."""
    total = 0
    for char in text:
        code = ord(char)
        if 32 <= code < 127:
            total += WIDTHS[code - 32]
        elif char == "…" or unicodedata.east_asian_width(char) in "WF":
            total += 102
        else:
            total += 70
    return total * size / 100 * (BOLD if bold else 1)


def wrapped(text: str, width: float, size: float) -> list[str]:
    """The text in lines of at most that width, broken between words."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [fitted(line, width, size) for line in lines]


def fitted(text: str, width: float, size: float, bold: bool = False) -> str:
    """As much of a text as fits, with an ellipsis; empty if not even three characters do."""
    if text_width(text, size, bold) <= width:
        return text
    kept, room = "", width - text_width("…", size, bold)
    for char in text:
        room -= text_width(char, size, bold)
        if room < 0:
            break
        kept += char
    return kept.rstrip() + "…" if len(kept) >= 3 else ""

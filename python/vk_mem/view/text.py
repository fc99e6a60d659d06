"""Estimates the width of texts, and wraps and shortens them."""

from __future__ import annotations

import unicodedata

# Widths of the characters from space to tilde in DejaVu Sans, in hundredths of the font size. Most
# system fonts are narrower.
WIDTHS = (
    32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 34, 34, 84, 84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79,
    60, 79, 69, 63, 61, 73, 68, 99, 69, 61, 69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35, 63,
    63, 28, 28, 58, 28, 97, 63, 61, 63, 63, 41, 52, 39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84,
)  # fmt: skip
BOLD = 1.15


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Estimates the width of a text in a sans-serif font, rather too wide than too narrow."""
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
    """Breaks a text between words into lines of at most that width."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [fitted(line, width, size) for line in lines]


def fitted(text: str, width: float, size: float, bold: bool = False) -> str:
    """Shortens a text with an ellipsis to fit; "" if fewer than three characters would."""
    if text_width(text, size, bold) <= width:
        return text
    kept, room = "", width - text_width("…", size, bold)
    for char in text:
        room -= text_width(char, size, bold)
        if room < 0:
            break
        kept += char
    return kept.rstrip() + "…" if len(kept) >= 3 else ""

"""Numbers and names as texts: for errors, reprs, tables and pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vk_mem._lazy import load

__all__ = ["counted", "known_size", "nearest", "well_formed", "with_article"]

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

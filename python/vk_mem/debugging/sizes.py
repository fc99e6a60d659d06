"""Reads sizes and quarantines as people write them: `64M`, `3 frames`."""

from __future__ import annotations

import re

__all__ = ["frames_of", "size_of"]

SIZE = re.compile(r"([0-9]{1,19})[ _]?(?:([KMGT])(?:i?B)?|B)?", re.ASCII)
FRAMES = re.compile(r"([0-9]{1,19})[ _]?frames?", re.ASCII)
FACTORS = {None: 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size_of(text: str) -> int | None:
    """Returns the bytes of a text such as `4096`, `64K`, `64M` or `64 MiB`; None for any other.

    K, M, G and T are powers of 1024, as in all of this package.
    """
    found = SIZE.fullmatch(text.strip())
    return int(found[1]) * FACTORS[found[2]] if found else None


def frames_of(text: str) -> int | None:
    """Returns the frames of a text such as `3 frames`; None for any other."""
    found = FRAMES.fullmatch(text.strip())
    return int(found[1]) if found else None

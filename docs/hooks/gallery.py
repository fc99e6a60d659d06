"""Finds the pictures that pages show, and those that the gallery lacks.

A page shows what its own programs draw by a bare name, `![alt](name.svg)`; the gallery shows it
again by its path from there, `![alt](features/name.svg)`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

GALLERY = "gallery.md"
OWN = re.compile(r"!\[[^\]]*\]\(([\w-]+\.(?:svg|html|png))\)")
SHOWN = re.compile(r"!\[[^\]]*\]\(([\w./-]+\.(?:svg|html|png))\)")


def pictures(page: str, text: str) -> list[str]:
    """Names of the pictures that the programs of a page draw."""
    return [] if page == GALLERY else OWN.findall(text)


def made(pages: Mapping[str, str]) -> dict[str, str]:
    """The page of each picture, both as paths from the root of the pages."""
    return {
        posixpath.join(posixpath.dirname(page), name): page
        for page, text in pages.items()
        for name in pictures(page, text)
    }


def differences(pages: Mapping[str, str]) -> list[str]:
    """What is wrong with the gallery: one line for each picture that it does not show once."""
    shown = SHOWN.findall(pages[GALLERY])
    wrong = []
    for picture, page in made(pages).items():
        if (times := shown.count(picture)) != 1:
            wrong.append(f"{GALLERY} shows {picture} of {page} {times} times, not once")
    return wrong

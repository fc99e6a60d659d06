"""Reads `VK_MEM_DEBUG`: the options of `Debug` for a program that nobody changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, NoReturn

from vk_mem.debugging.options import SWITCHES, Debug
from vk_mem.debugging.sizes import size_of
from vk_mem.errors import InvalidArgumentError
from vk_mem.text import nearest

__all__ = ["debug_of_environment"]

ALL: dict[str, Any] = {
    "fill": "pattern",
    "fill_on_free": "pattern",
    "detect_corruption": True,
    "quarantine": 64 << 20,
}
"""What `VK_MEM_DEBUG=all` sets, and `VK_MEM_DEBUG=1`: what finds faults without changing where
programs may write."""
CALL_SITES = "track_call_sites"
"""A keyword of the allocator, which is no option of `Debug`."""
SHORT = {"corruption": "detect_corruption", "sites": CALL_SITES}
KNOWN = (*(it.name for it in fields(Debug)), CALL_SITES, *SHORT, "all")


def _wrong(what: str) -> NoReturn:
    raise InvalidArgumentError(f"VK_MEM_DEBUG: {what}")


def debug_of_environment(text: str) -> tuple[Debug | None, bool | int]:
    """Returns what a value of `VK_MEM_DEBUG` asks for, None for an empty one and for `0`; and what
    it says for `track_call_sites`.

    Words are separated by commas. `fill`, `fill_on_free`, `margin`, `quarantine`, `check` and
    `min_granularity` have a value behind `=`, as the keywords of `Debug` have; `fill` and
    `fill_on_free` alone mean "pattern". `corruption` (or `detect_corruption`), `always_dedicated`,
    `poison_unmapped`, `strict_host_access` and `sites` (or `track_call_sites`, which may have a
    number of frames) are switched on. `all`, or `1`, sets
    `fill,fill_on_free,corruption,quarantine=64M,sites`; words beside it change that: `none` is the
    value for what is not to be done, or `0` for a switch and for a quarantine.

    Raises `InvalidArgumentError` for anything else.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words in ([], ["0"]):
        return None, False
    given: dict[str, Any] = {}
    is_all = False
    for word in words:
        if word in ("all", "1"):
            is_all = True
            continue
        name, equals, value = (part.strip() for part in word.partition("="))
        name = SHORT.get(name, name)
        if name not in KNOWN or name == "all":
            _unknown(word, name)
        if name in given:
            _wrong(f"{name} is given twice")
        given[name] = _value(name, value if equals else None)
    sites = given.pop(CALL_SITES, is_all)
    try:
        return Debug(**{**(ALL if is_all else {}), **given}), sites
    except InvalidArgumentError as error:
        _wrong(str(error))


def _unknown(word: str, name: str) -> NoReturn:
    meant = nearest(name, KNOWN, 1)
    hint = f"; did you mean {meant[0]}?" if meant else f"; there are {', '.join(KNOWN)}"
    _wrong(f"{word[:80]!r} is not known{hint}")


def _value(name: str, text: str | None) -> Any:
    if name in SWITCHES:
        if text not in (None, "1", "0"):
            _wrong(f"{name} is {text[:80]!r}: it is 1, or 0")
        return text != "0"
    if name == CALL_SITES:
        return _call_sites(text)
    if (text == "none" and name in NONE) or (text == "0" and name == "quarantine"):
        return None
    read, example = VALUES[name]
    if text is None and name in ("fill", "fill_on_free"):
        return "pattern"
    value = read(text) if text else None
    if value is None:
        given = f"{name} is {text[:80]!r}: it" if text else name
        _wrong(f"{given} needs a value as in {name}={example}")
    return value


def _call_sites(text: str | None) -> bool | int:
    if text is None:
        return True
    frames = size_of(text)
    if frames is None:
        _wrong(f"{CALL_SITES} is {text[:80]!r}: it is a number of frames, or 0")
    return frames


def _contents(text: str) -> str | int:
    """A byte as a number, in decimal or hexadecimal; else the text."""
    try:
        return int(text, 0)
    except ValueError:
        return text


NONE = ("fill", "fill_on_free", "quarantine", "min_granularity")
"""Options that None switches off."""
VALUES: dict[str, tuple[Callable[[str], Any], str]] = {
    "fill": (_contents, "zero"),
    "fill_on_free": (_contents, "zero"),
    "margin": (size_of, "16"),
    "quarantine": (str, "64M"),
    "check": (str, "frame"),
    "min_granularity": (size_of, "64K"),
}

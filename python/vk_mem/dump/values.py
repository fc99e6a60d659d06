"""Checks the types and ranges of values in a dump."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from vk_mem.errors import DumpError
from vk_mem.text import well_formed

LARGEST_NUMBER = (1 << 64) - 1
LONGEST_TEXT = 10_000


def wrong(where: str, what: str) -> NoReturn:
    """Raises `DumpError` with one line that names the place."""
    raise DumpError(well_formed(f"not a readable dump: {where}{': ' if where else ''}{what}"))


def shown(value: object) -> str:
    """Describes a value for an error message."""
    if isinstance(value, str):
        return "a text"
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    if isinstance(value, int | float):
        short = -(10**30) < value < 10**30
        return str(value) if short else "a huge number"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else type(value).__name__


def object_of(value: object, where: str) -> Mapping[str, Any]:
    """Returns a value that must be a JSON object."""
    if not isinstance(value, Mapping):
        wrong(where, f"an object is expected, not {shown(value)}")
    return value


def list_of(value: object, where: str) -> list[Any]:
    """Returns a value that must be a JSON list."""
    if not isinstance(value, list):
        wrong(where, f"a list is expected, not {shown(value)}")
    return value


def key(key: object, where: str) -> str:
    """Returns a key, which must be a text of at most `LONGEST_TEXT` characters."""
    if not isinstance(key, str):
        wrong(where, f"keys are texts, not {shown(key)}")
    if len(key) > LONGEST_TEXT:
        wrong(where, f"a key has {len(key)} characters")
    return well_formed(key)


def number(value: object, where: str) -> int:
    """Returns a value that must be an unsigned 64-bit integer."""
    # isinstance would accept a bool.
    if type(value) is not int or not 0 <= value <= LARGEST_NUMBER:
        wrong(where, f"a number of bytes, a count or flags are expected, not {shown(value)}")
    return value


def text(value: object, where: str) -> str:
    """Returns a value that must be a text, cut to `LONGEST_TEXT` characters."""
    if not isinstance(value, str):
        wrong(where, f"a text is expected, not {shown(value)}")
    return well_formed(value if len(value) <= LONGEST_TEXT else value[:LONGEST_TEXT] + "…")


def get(of: Mapping[str, Any], key: str, where: str) -> object:
    """Returns the value of a required key."""
    if key not in of:
        wrong(where, f"{key} is missing")
    return of[key]


def items(value: object, where: str) -> Iterator[tuple[str, object]]:
    """Yields the keys and values of a JSON object."""
    for name, item in object_of(value, where).items():
        yield key(name, where), item

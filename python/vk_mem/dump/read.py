"""Finds the JSON of a dump in a file, bytes or text, also with a log around it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import NoReturn

from vk_mem._files import read_regular_file
from vk_mem.dump.values import wrong
from vk_mem.errors import DumpError

LARGEST_FILE = 2 << 30
"""In bytes. A dump of a million allocations has about a tenth of this."""
# How a dump can begin in a log, whatever the order of its keys.
BEGINNING = re.compile(
    r'\{\s*"(?:General|Total|MemoryInfo|DefaultPools|CustomPools|CallSites|Aliases|Evictable|Debug|'
    r'Heap \d+)"\s*:'
)
HEAP_OF_VMA_2 = re.compile(r"Heap \d+")
MOST_TRIES = 64
"""Failed attempts to parse a dump in a log: each may read all the text that follows."""
BLANK = "\ufeff \t\r\n\0"


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Returns the content of a regular file of at most `LARGEST_FILE` bytes.

    Raises `DumpError` for a larger file, and for any other kind of file, without waiting for it;
    `OSError` if it cannot be read.
    """
    return read_regular_file(path, LARGEST_FILE, "dump", lambda what: wrong("", what))


def decode(data: bytes) -> str:
    """Decodes UTF-8 or UTF-16, detected by the first bytes."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        wrong("", f"byte {error.start} is not {encoding.removesuffix('-sig').upper()}")


def is_text_of_a_dump(text: str) -> bool:
    """Whether a text is JSON, or a log that contains JSON, and not a path."""
    return text.lstrip(BLANK).startswith(("{", "[")) or ("\n" in text and "{" in text)


def parse(text: str) -> object:
    """Parses JSON. In a log, returns the last complete dump.

    Raises `DumpError` with the position of the error.
    """
    start = len(text) - len(text.lstrip(BLANK))
    value, trouble = None, None
    if text.startswith(("{", "["), start):
        try:
            value, end = _value_at(text, start)
            if not text[end:].strip(BLANK):
                return value
        except DumpError as error:
            trouble = error
            if BEGINNING.match(text, start):
                raise
    found = _last_dump(text)
    if found is not None:
        return found
    if isinstance(value, Mapping):
        return value
    match = BEGINNING.search(text)
    brace = text.find("{", start) if match is None else match.start()
    if trouble is not None and brace <= start:
        raise trouble
    if brace < 0:
        wrong("", "there is no { in it, so no JSON object")
    where = _place(text, brace)
    try:
        _value_at(text, brace)
    except DumpError as error:
        raise DumpError(f"{error} (the text is a log; a {{ begins {where})") from None
    wrong("", f"the text is a log without a dump; a {{ begins {where}")


def _last_dump(text: str) -> object | None:
    found, at, tries = None, 0, 0
    while tries < MOST_TRIES:
        match = BEGINNING.search(text, at)
        if match is None:
            break
        at = match.start() + 1
        try:
            value, end = _value_at(text, match.start())
        except DumpError:
            tries += 1
            continue
        if _is_dump(value):
            found, at = value, end
        else:
            tries += 1
    return found


def _is_dump(value: object) -> bool:
    if not isinstance(value, Mapping) or "Total" not in value:
        return False
    return "General" in value or any(HEAP_OF_VMA_2.fullmatch(key) for key in value)


def _place(text: str, at: int) -> str:
    line = text.count("\n", 0, at) + 1
    return f"at line {line}, column {at - text.rfind(chr(10), 0, at)}"


def _no_constant(name: str) -> NoReturn:
    wrong("", f"{name} is not a number of JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)


def _value_at(text: str, at: int) -> tuple[object, int]:
    """Returns the JSON value that begins at an index, and the index of its end."""
    try:
        value, end = _decoder.raw_decode(text, at)
    except json.JSONDecodeError as error:
        wrong("", f"line {error.lineno}, column {error.colno}: {error.msg}")
    except RecursionError:
        wrong("", "it is nested too deeply")
    except DumpError:
        raise
    except ValueError:
        # Python refuses to convert integers of thousands of digits.
        wrong("", "a number has too many digits")
    return value, end

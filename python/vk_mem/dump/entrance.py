"""The functions of dumps that each program can call, without what most programs never need."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vk_mem._lazy import load

if TYPE_CHECKING:
    from vk_mem.dump.compare import Diff
    from vk_mem.dump.load import Source
    from vk_mem.dump.model import Dump

__all__ = ["diff", "load_dump"]


def load_dump(source: str | bytes | os.PathLike[str] | Mapping[str, object]) -> Dump:
    """Reads a dump from a path, from JSON as text or bytes, or from parsed JSON.

    Dumps of `Allocator.build_stats_string`, VMA 2 and 3 (`vmaBuildStatsString`), and D3D12MA 2
    (`Allocator::BuildStatsString`) are read.

    A text that begins with `{`, or has several lines and a `{`, is JSON; any other is a path. UTF-8
    and UTF-16 are detected. A log may surround the dump: the last complete dump in it is read. Lone
    surrogates in names become U+FFFD.

    Raises `DumpError` if the input is no dump (truncated, wrong types, negative sizes, ranges
    outside their block) or no regular file, such as a FIFO or a device; `OSError` if the file
    cannot be read.
    """
    dump: Dump = load("vk_mem.dump.load").load_dump(source)
    return dump


def diff(a: Source, b: Source) -> Diff:
    """Compares two sources: live allocators, dumps, paths or JSON texts.

    Two allocations match if their pool, block, offset, size, type and name are equal. Dedicated
    allocations have no offset; equal ones are matched by count. An allocation that was freed and
    made again at the same place counts as the same.

    What is left over counts as moved if each dump has exactly one allocation with this name, size,
    type, usage, user data, call site, memory type and pool. Without a name and without user data
    nothing tells two allocations apart, and such are never said to have moved.

    Raises what `load_dump` raises.
    """
    found: Diff = load("vk_mem.dump.compare").diff(a, b)
    return found

"""What dumps say of memory that is held back: margins, and what is in quarantine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from vk_mem.dump.values import get, list_of, number, wrong

__all__ = ["DebugStatistics"]


class DebugStatistics(NamedTuple):
    """Memory that is held back to find faults (`Debug`), of a whole allocator."""

    margin_count: int
    """Margins before and behind allocations, of which each has two or none."""
    margin_bytes: int
    """Their size in bytes."""
    quarantined_count: int
    """Freed allocations whose memory is not given out again yet."""
    quarantined_bytes: int
    """Their size in bytes, without their margins."""


NOTHING_HELD = DebugStatistics(0, 0, 0, 0)
"""There are no margins, and nothing is in quarantine."""
KEYS = ("MarginCount", "MarginBytes", "QuarantinedCount", "QuarantinedBytes")


def read_held(of: Mapping[str, Any]) -> DebugStatistics:
    """Reads the figures of the key `Debug`."""
    return DebugStatistics(*(number(get(of, key, "Debug"), f"Debug.{key}") for key in KEYS))


def numbers(value: object, count: int, where: str) -> list[int]:
    """Returns a value that must be a list of so many numbers."""
    listed = list_of(value, where)
    if len(listed) != count:
        wrong(where, f"{count} numbers are expected, not {len(listed)}")
    return [number(it, where) for it in listed]

"""What dumps and statistics say of resources that may be lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from vk_mem.dump.values import get, number

__all__ = ["EvictionStatistics"]


class EvictionStatistics(NamedTuple):
    """Resources that may be lost, and those that were, of a memory type or a whole allocator."""

    evictable_count: int
    """Live resources that were created with `CAN_BECOME_LOST`."""
    evictable_bytes: int
    """Their size in bytes."""
    lost_count: int
    """Resources that were lost, and whose objects are not destroyed yet."""
    lost_bytes: int
    """The size in bytes that they had."""
    loss_count: int
    """Resources that were ever lost; those of pools that were closed do not count any more."""
    loss_bytes: int
    """The size in bytes that they had."""


KEYS = ("EvictableCount", "EvictableBytes", "LostCount", "LostBytes", "LossCount", "LossBytes")


def read_evictions(of: Mapping[str, Any]) -> EvictionStatistics:
    """Reads the figures of the key `Evictable`."""
    return EvictionStatistics(
        *(number(get(of, key, "Evictable"), f"Evictable.{key}") for key in KEYS)
    )

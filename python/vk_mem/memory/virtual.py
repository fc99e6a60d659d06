"""What `VirtualBlock.allocate_many` gives."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["VirtualAllocations"]


class VirtualAllocations(NamedTuple):
    """Many ranges of a `VirtualBlock`, in the order of the sizes that were asked for."""

    handles: memoryview
    """For `free_many`; unsigned 64-bit integers (format "Q")."""
    offsets: memoryview
    """Where they start, in the caller's unit; unsigned 64-bit integers (format "Q")."""

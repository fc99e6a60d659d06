"""The result of `VirtualBlock.allocate_many`."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["VirtualAllocations"]


class VirtualAllocations(NamedTuple):
    """Ranges of a `VirtualBlock`, in the order of the requested sizes."""

    handles: memoryview
    """Handles for `free_many`, as unsigned 64-bit integers (format "Q")."""
    offsets: memoryview
    """Offsets in the caller's unit, as unsigned 64-bit integers (format "Q")."""

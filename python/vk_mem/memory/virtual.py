"""Results of `VirtualBlock.allocate_many` and `VirtualBlock.defragment`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from vk_mem._vk_mem import VirtualAllocation

__all__ = ["VirtualAllocations", "VirtualMove"]


class VirtualAllocations(NamedTuple):
    """Ranges of a `VirtualBlock`, in the order of the requested sizes."""

    handles: memoryview
    """Handles for `free_many`, as unsigned 64-bit integers (format "Q")."""
    offsets: memoryview
    """Offsets in the caller's unit, as unsigned 64-bit integers (format "Q")."""


class VirtualMove(NamedTuple):
    """A move of `VirtualBlock.defragment`."""

    allocation: VirtualAllocation
    """What moves. Its handle, size and user data stay."""
    old_offset: int
    """Offset before the move, in the caller's unit."""
    new_offset: int
    """Offset after the move, in the caller's unit. Less than before."""
    size: int
    """Size in the caller's unit."""

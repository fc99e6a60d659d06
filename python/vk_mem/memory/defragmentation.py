"""What a defragmentation tells: where resources were and are, and what it has done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from vk_mem.text import counted, size_text

if TYPE_CHECKING:
    from vk_mem._vk_mem import Buffer, Image

__all__ = ["DefragmentationPolicy", "DefragmentationStatistics", "Location", "Move"]


class Location(NamedTuple):
    """A place in device memory."""

    device_memory: int
    """The `VkDeviceMemory`."""
    offset: int
    """Offset in it, in bytes."""
    size: int
    """Size in bytes."""
    memory_type_index: int
    """Index into the device's memory types."""


class Move(NamedTuple):
    """A resource that has moved, as a callback of `on_move` gets it."""

    resource: Buffer | Image
    """The resource; its `handle` is the new one."""
    old_handle: int
    """The `VkBuffer` or `VkImage` before, which is destroyed when no frame in flight can use it."""
    new_handle: int
    """The `VkBuffer` or `VkImage` that it has now."""
    old_location: Location
    """The memory that it was in."""
    new_location: Location
    """The memory that it is in."""


class DefragmentationPolicy(NamedTuple):
    """When `Allocator(auto_defragment=...)` defragments by itself, and how much at once."""

    share: float = 0.0625
    """It does where the blocks of a heap exceed what is allocated in them by this share and one
    block."""
    max_bytes: int = 16 << 20
    """Most bytes that a frame moves; what is larger moves alone."""
    max_moves: int = 128
    """Most resources that a frame moves."""
    algorithm: Literal["fast", "balanced", "full", "extensive"] = "balanced"
    """The most thorough one of `Allocator.defragment` that it uses: "fast", which empties blocks,
    comes first, and this one where that finds nothing to move and too much is still held."""


class DefragmentationStatistics(NamedTuple):
    """What a defragmentation has done (`VmaDefragmentationStats`)."""

    bytes_moved: int
    """Bytes of the resources that have moved."""
    bytes_freed: int
    """Bytes of the blocks that were given back to the device."""
    allocations_moved: int
    """Number of moves."""
    device_memory_blocks_freed: int
    """Number of blocks that were given back to the device."""
    not_moved: dict[str, int]
    """How many resources stayed although a better place was known, by the reason."""

    def __str__(self) -> str:
        """The figures in one line."""
        stayed = ", ".join(f"{count} {reason}" for reason, count in self.not_moved.items())
        return (
            f"{counted(self.allocations_moved, 'move')} of {size_text(self.bytes_moved)}; "
            f"{counted(self.device_memory_blocks_freed, 'block')} of "
            f"{size_text(self.bytes_freed)} freed" + (f"; stayed: {stayed}" if stayed else "")
        )

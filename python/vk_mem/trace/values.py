"""What events ask for and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vk_mem.flags import (
    AllocationCreateFlags,
    MemoryPropertyFlags,
    MemoryUsage,
)

__all__ = ["BufferInfo", "Failure", "ImageInfo", "Object", "Placement", "Request"]


@dataclass(frozen=True, slots=True)
class BufferInfo:
    """`VkBufferCreateInfo` without its size, which the event has."""

    flags: int
    usage: int
    """`VkBufferUsageFlags2`, which has the bits of `BufferUsage`."""
    sharing_mode: int


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """`VkImageCreateInfo`, with Vulkan's numbers."""

    flags: int
    image_type: int
    format: int
    extent: tuple[int, int, int]
    """Width, height and depth in texels."""
    mip_levels: int
    array_layers: int
    samples: int
    tiling: int
    usage: int
    sharing_mode: int
    initial_layout: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an allocation is."""

    memory_type: int | None
    """Index into the device's memory types."""
    memory: int | None
    """Number of the memory object."""
    offset: int
    """Offset in that object, in bytes; 0 if it is not known."""
    is_dedicated: bool
    """Whether the memory object is its own."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call failed, and the figures of that moment."""

    reason: str
    """`out_of_device_memory`, `refused` and the like; `unknown` if the trace does not say."""
    result: int | None
    """The `VkResult`, if it has one."""
    figures: dict[str, Any] | None
    """Size of the request, usage and budget of the heap in bytes, if the trace says them."""
    message: str | None


@dataclass(frozen=True, slots=True)
class Object:
    """An object that can have a name."""

    kind: str
    """`allocation`, `pool`, `memory` or `space`."""
    number: int


@dataclass(frozen=True, slots=True)
class Request:
    """All that an allocation was asked for but its size: `VmaAllocationCreateInfo` and more."""

    alignment: int | None
    """Alignment that the resource requires, in bytes; None if the trace does not say."""
    memory_type_bits: int | None
    """Bit i: the resource allows memory type i; None if the trace does not say."""
    prefers_dedicated: bool
    requires_dedicated: bool
    usage: MemoryUsage
    flags: AllocationCreateFlags
    required_flags: MemoryPropertyFlags
    preferred_flags: MemoryPropertyFlags
    not_preferred_flags: MemoryPropertyFlags
    allowed_types: int
    """Bit i: the caller allows memory type i; 0 allows all."""
    min_alignment: int
    """Alignment that the caller asked for, in bytes."""
    pool: int | None
    """Number of the pool."""
    priority: float | None
    export_handle_types: int
    has_next: bool
    """Whether there was a `pNext` chain for `vkAllocateMemory`, which traces do not contain."""
    first_choice_only: bool
    evict: str | int
    """What it may take away: `idle`, `never`, `lower_priority`, or a number of frames."""
    kind: str
    """`buffer`, `image`, `linear image`, `optimal image` or `unknown`."""
    resource_use: str
    """`device`, `transfer` or `unknown`."""
    names_resource: bool
    """Whether a dedicated memory object names the resource."""
    resource: BufferInfo | ImageInfo | int | None
    """The buffer or image; the number of a CUDA stream; None for memory alone."""


def request_of(fields: dict[str, Any]) -> Request:
    """Makes a request of what the native module says of it."""
    return Request(
        **{
            **fields,
            "usage": MemoryUsage(fields["usage"]),
            "flags": AllocationCreateFlags(fields["flags"]),
            "required_flags": MemoryPropertyFlags(fields["required_flags"]),
            "preferred_flags": MemoryPropertyFlags(fields["preferred_flags"]),
            "not_preferred_flags": MemoryPropertyFlags(fields["not_preferred_flags"]),
            "resource": _resource_of(fields["resource"]),
        }
    )


def _resource_of(fields: dict[str, Any] | None) -> BufferInfo | ImageInfo | int | None:
    if fields is None:
        return None
    ((kind, value),) = fields.items()
    if kind == "buffer":
        return BufferInfo(**value)
    if kind == "image":
        return ImageInfo(**{**value, "extent": tuple(value["extent"])})
    stream: int = value
    return stream

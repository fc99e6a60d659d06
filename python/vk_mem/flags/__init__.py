"""Flags and enumerations of Vulkan and VMA, with their own values.

Names drop the prefix and the `_BIT` of the C name and keep the tag of a vendor:
`VK_BUFFER_USAGE_VERTEX_BUFFER_BIT` is `BufferUsage.VERTEX_BUFFER`, and
`VK_IMAGE_TILING_DRM_FORMAT_MODIFIER_EXT` is `ImageTiling.DRM_FORMAT_MODIFIER_EXT`. Where a name
would then begin with a digit, the word before it stays: `SampleCount.COUNT_1`, `ImageType.TYPE_2D`.

Flags keep bits that have no name here, and every parameter that takes a flag or an enumeration also
takes an int, so the constants of any binding will do, and names as texts: see `vk_mem.flags.names`.
"""

from __future__ import annotations

from vk_mem.flags.format import Format
from vk_mem.flags.memory import (
    AllocationCreateFlags,
    DefragmentationMoveOperation,
    DeviceFaultAddressType,
    DeviceType,
    ExternalMemoryHandleType,
    MemoryHeapFlags,
    MemoryPropertyFlags,
    MemoryUsage,
    QueueFlags,
)
from vk_mem.flags.resource import (
    BufferCreateFlags,
    BufferUsage,
    Filter,
    ImageAspect,
    ImageCreateFlags,
    ImageLayout,
    ImageTiling,
    ImageType,
    ImageUsage,
    SampleCount,
    SharingMode,
)

__all__ = [
    "AllocationCreateFlags",
    "BufferCreateFlags",
    "BufferUsage",
    "DefragmentationMoveOperation",
    "DeviceFaultAddressType",
    "DeviceType",
    "ExternalMemoryHandleType",
    "Filter",
    "Format",
    "ImageAspect",
    "ImageCreateFlags",
    "ImageLayout",
    "ImageTiling",
    "ImageType",
    "ImageUsage",
    "MemoryHeapFlags",
    "MemoryPropertyFlags",
    "MemoryUsage",
    "QueueFlags",
    "SampleCount",
    "SharingMode",
]

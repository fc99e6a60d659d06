"""Memory: its properties, its heaps, and how an allocation is made. Values of Vulkan and VMA."""

from __future__ import annotations

import enum


class MemoryPropertyFlags(enum.IntFlag, boundary=enum.KEEP):
    """What memory of a type can do: `VkMemoryPropertyFlagBits`."""

    DEVICE_LOCAL = 0x1
    HOST_VISIBLE = 0x2
    HOST_COHERENT = 0x4
    HOST_CACHED = 0x8
    LAZILY_ALLOCATED = 0x10
    PROTECTED = 0x20
    DEVICE_COHERENT_AMD = 0x40
    DEVICE_UNCACHED_AMD = 0x80
    RDMA_CAPABLE_NV = 0x100


class MemoryHeapFlags(enum.IntFlag, boundary=enum.KEEP):
    """What a heap is: `VkMemoryHeapFlagBits`."""

    DEVICE_LOCAL = 0x1
    MULTI_INSTANCE = 0x2
    TILE_MEMORY_QCOM = 0x8


class ExternalMemoryHandleType(enum.IntFlag, boundary=enum.KEEP):
    """How memory is handed to others: `VkExternalMemoryHandleTypeFlagBits`."""

    OPAQUE_FD = 0x1
    """A file descriptor that only Vulkan and its relatives (CUDA) understand."""
    OPAQUE_WIN32 = 0x2
    """The same as an NT handle."""
    OPAQUE_WIN32_KMT = 0x4
    """The same as a global share handle, which nobody closes."""
    D3D11_TEXTURE = 0x8
    D3D11_TEXTURE_KMT = 0x10
    D3D12_HEAP = 0x20
    D3D12_RESOURCE = 0x40
    HOST_ALLOCATION_EXT = 0x80
    """Memory of this process; import only."""
    HOST_MAPPED_FOREIGN_MEMORY_EXT = 0x100
    """Memory of another device that is mapped into this process; import only."""
    DMA_BUF_EXT = 0x200
    """A Linux dma-buf."""
    ANDROID_HARDWARE_BUFFER_ANDROID = 0x400
    ZIRCON_VMO_FUCHSIA = 0x800
    RDMA_ADDRESS_NV = 0x1000
    SCREEN_BUFFER_QNX = 0x4000
    OH_NATIVE_BUFFER_OHOS = 0x8000
    MTLBUFFER_EXT = 0x10000
    MTLTEXTURE_EXT = 0x20000
    MTLHEAP_EXT = 0x40000


class QueueFlags(enum.IntFlag, boundary=enum.KEEP):
    """What the queues of a family can do: `VkQueueFlagBits`."""

    GRAPHICS = 0x1
    COMPUTE = 0x2
    TRANSFER = 0x4
    SPARSE_BINDING = 0x8
    PROTECTED = 0x10
    VIDEO_DECODE_KHR = 0x20
    VIDEO_ENCODE_KHR = 0x40
    OPTICAL_FLOW_NV = 0x100
    DATA_GRAPH_ARM = 0x400


class DeviceType(enum.IntEnum):
    """Kind of a physical device: `VkPhysicalDeviceType`."""

    OTHER = 0
    INTEGRATED_GPU = 1
    DISCRETE_GPU = 2
    VIRTUAL_GPU = 3
    CPU = 4


class MemoryUsage(enum.IntEnum):
    """The intended use of an allocation: `VmaMemoryUsage`.

    The `AUTO` values look at the resource's usage and at the `HOST_ACCESS` flags; the older names
    from `GPU_ONLY` to `CPU_COPY` look at themselves only.
    """

    UNKNOWN = 0
    """Only the flags decide."""
    GPU_ONLY = 1
    """Older name: memory of the device, not mapped."""
    CPU_ONLY = 2
    """Older name: host-visible, coherent memory of the host."""
    CPU_TO_GPU = 3
    """Older name: written by the host, read by the device."""
    GPU_TO_CPU = 4
    """Older name: written by the device, read by the host."""
    CPU_COPY = 5
    """Older name: memory of the host, not of the device."""
    GPU_LAZILY_ALLOCATED = 6
    """Lazily allocated memory; transient attachments of tiled GPUs."""
    AUTO = 7
    """Chosen from the resource's usage and the `HOST_ACCESS` flags."""
    AUTO_PREFER_DEVICE = 8
    """As `AUTO`, leaning to the device."""
    AUTO_PREFER_HOST = 9
    """As `AUTO`, leaning to the host."""


class AllocationCreateFlags(enum.IntFlag, boundary=enum.KEEP):
    """How to allocate: `VmaAllocationCreateFlagBits`."""

    DEDICATED_MEMORY = 0x1
    """A `VkDeviceMemory` of its own."""
    NEVER_ALLOCATE = 0x2
    """Only in blocks that exist already."""
    MAPPED = 0x4
    """Mapped for as long as it lives."""
    UPPER_ADDRESS = 0x40
    """From the upper end of a block; for pools with the linear algorithm."""
    DONT_BIND = 0x80
    """Create the resource, allocate, do not bind."""
    WITHIN_BUDGET = 0x100
    """Fail instead of going over the heap's budget."""
    CAN_ALIAS = 0x200
    """Other resources may be bound to the same memory."""
    HOST_ACCESS_SEQUENTIAL_WRITE = 0x400
    """The host writes from front to back and does not read."""
    HOST_ACCESS_RANDOM = 0x800
    """The host reads, or writes in any order."""
    HOST_ACCESS_ALLOW_TRANSFER_INSTEAD = 0x1000
    """Memory that is not host-visible will do: the caller then makes a transfer."""
    STRATEGY_MIN_MEMORY = 0x1_0000
    """Best fit: the smallest free region that serves."""
    STRATEGY_MIN_TIME = 0x2_0000
    """First fit: the quickest choice."""
    STRATEGY_MIN_OFFSET = 0x4_0000
    """The lowest offset; time grows with the number of regions."""

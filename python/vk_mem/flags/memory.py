"""Memory: its properties, its heaps, and how an allocation is made. Values of Vulkan and VMA."""

from __future__ import annotations

import enum


class MemoryPropertyFlags(enum.IntFlag, boundary=enum.KEEP):
    """Properties of a memory type: `VkMemoryPropertyFlagBits`."""

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
    """Properties of a memory heap: `VkMemoryHeapFlagBits`."""

    DEVICE_LOCAL = 0x1
    MULTI_INSTANCE = 0x2
    TILE_MEMORY_QCOM = 0x8


class ExternalMemoryHandleType(enum.IntFlag, boundary=enum.KEEP):
    """Handle types to export and import memory: `VkExternalMemoryHandleTypeFlagBits`."""

    OPAQUE_FD = 0x1
    """A POSIX file descriptor for Vulkan and related APIs such as CUDA only."""
    OPAQUE_WIN32 = 0x2
    """An NT handle for Vulkan and related APIs only."""
    OPAQUE_WIN32_KMT = 0x4
    """A global share handle for Vulkan and related APIs only; it is never closed."""
    D3D11_TEXTURE = 0x8
    D3D11_TEXTURE_KMT = 0x10
    D3D12_HEAP = 0x20
    D3D12_RESOURCE = 0x40
    HOST_ALLOCATION_EXT = 0x80
    """Host memory of this process; import only."""
    HOST_MAPPED_FOREIGN_MEMORY_EXT = 0x100
    """Memory of another device, mapped into this process; import only."""
    DMA_BUF_EXT = 0x200
    """A Linux dma-buf file descriptor."""
    ANDROID_HARDWARE_BUFFER_ANDROID = 0x400
    ZIRCON_VMO_FUCHSIA = 0x800
    RDMA_ADDRESS_NV = 0x1000
    SCREEN_BUFFER_QNX = 0x4000
    OH_NATIVE_BUFFER_OHOS = 0x8000
    MTLBUFFER_EXT = 0x10000
    MTLTEXTURE_EXT = 0x20000
    MTLHEAP_EXT = 0x40000


class QueueFlags(enum.IntFlag, boundary=enum.KEEP):
    """Capabilities of a queue family: `VkQueueFlagBits`."""

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


class DeviceFaultAddressType(enum.IntEnum):
    """What a device did at a faulting address: `VkDeviceFaultAddressTypeEXT`."""

    NONE_EXT = 0
    READ_INVALID_EXT = 1
    """It read there, and must not have."""
    WRITE_INVALID_EXT = 2
    """It wrote there, and must not have."""
    EXECUTE_INVALID_EXT = 3
    """It executed code from there, and must not have."""
    INSTRUCTION_POINTER_UNKNOWN_EXT = 4
    """The instruction pointer at the time of the fault, which may have nothing to do with it."""
    INSTRUCTION_POINTER_INVALID_EXT = 5
    """The instruction pointer, which was invalid."""
    INSTRUCTION_POINTER_FAULT_EXT = 6
    """The instruction pointer of the code that caused the fault."""


class DefragmentationMoveOperation(enum.IntEnum):
    """What becomes of a `DefragmentationMove`: `VmaDefragmentationMoveOperation`."""

    COPY = 0
    """It was copied: the resource has the new handle and place from now on."""
    IGNORE = 1
    """It stays where it is."""
    DESTROY = 2
    """It is destroyed."""


class MemoryUsage(enum.IntEnum):
    """The intended use of an allocation: `VmaMemoryUsage`.

    The `AUTO` values depend on the resource's usage and on the `HOST_ACCESS` flags; the older
    values from `GPU_ONLY` to `CPU_COPY` do not.
    """

    UNKNOWN = 0
    """No preference: only the property flags decide."""
    GPU_ONLY = 1
    """Older value: device-local memory, not mapped."""
    CPU_ONLY = 2
    """Older value: host-visible and host-coherent memory."""
    CPU_TO_GPU = 3
    """Older value: written by the host, read by the device."""
    GPU_TO_CPU = 4
    """Older value: written by the device, read by the host."""
    CPU_COPY = 5
    """Older value: memory that is not device-local."""
    GPU_LAZILY_ALLOCATED = 6
    """Lazily allocated memory, for transient attachments on tile-based GPUs."""
    AUTO = 7
    """Chosen from the resource's usage and the `HOST_ACCESS` flags."""
    AUTO_PREFER_DEVICE = 8
    """Like `AUTO`, but prefers device-local memory."""
    AUTO_PREFER_HOST = 9
    """Like `AUTO`, but prefers memory that is not device-local."""


class AllocationCreateFlags(enum.IntFlag, boundary=enum.KEEP):
    """How to allocate: `VmaAllocationCreateFlagBits`."""

    DEDICATED_MEMORY = 0x1
    """Gives the allocation its own `VkDeviceMemory`."""
    NEVER_ALLOCATE = 0x2
    """Allocates only from existing blocks."""
    MAPPED = 0x4
    """Keeps the memory mapped as long as the allocation lives."""
    CAN_BECOME_LOST = 0x8
    """The memory may be taken away when something else needs room: `Resource.touch`."""
    CAN_MAKE_OTHER_LOST = 0x10
    """Takes memory away from others (`CAN_BECOME_LOST`) where there is no room otherwise."""
    UPPER_ADDRESS = 0x40
    """Allocates from the upper end of a block; only in pools with the linear algorithm."""
    DONT_BIND = 0x80
    """Does not bind the new resource to its memory."""
    WITHIN_BUDGET = 0x100
    """Fails if the heap would exceed its budget."""
    CAN_ALIAS = 0x200
    """Allows other resources to be bound to the same memory."""
    HOST_ACCESS_SEQUENTIAL_WRITE = 0x400
    """The host only writes, and in ascending order of addresses."""
    HOST_ACCESS_RANDOM = 0x800
    """The host reads, or writes in any order."""
    HOST_ACCESS_ALLOW_TRANSFER_INSTEAD = 0x1000
    """Allows memory that is not host-visible; the caller then copies through a staging buffer."""
    STRATEGY_MIN_MEMORY = 0x1_0000
    """Best fit: the smallest sufficient free region."""
    STRATEGY_MIN_TIME = 0x2_0000
    """First fit: the shortest search."""
    STRATEGY_MIN_OFFSET = 0x4_0000
    """The lowest offset; the time grows with the number of regions."""

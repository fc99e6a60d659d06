"""The errors of vk-mem. All derive from `VkMemError`; figures are attributes.

Out of memory is a `MemoryError`, a wrong argument a `ValueError`, so code that knows nothing of
Vulkan catches them too. `UnflushedWriteWarning` alone is no error but a warning.
"""

from __future__ import annotations

__all__ = [
    "CorruptionError",
    "DeviceLostError",
    "DumpError",
    "FeatureNotPresentError",
    "InitializationError",
    "InvalidArgumentError",
    "MemoryMapError",
    "OutOfDeviceMemoryError",
    "OutOfHostMemoryError",
    "TooManyObjectsError",
    "UnflushedWriteWarning",
    "UseAfterFreeError",
    "VkMemError",
]


class VkMemError(Exception):
    """Base of all errors of this package; raised itself for a `VkResult` that has no class here.

    Every figure is `None` where it is not known or has no meaning.
    """

    size: int | None
    """What was asked for, in bytes."""
    memory_type_index: int | None
    """The memory type of the last attempt."""
    heap_index: int | None
    """The heap of that memory type."""
    heap_usage: int | None
    """Bytes in use on that heap when the request failed."""
    heap_budget: int | None
    """Bytes that this process may use on that heap."""
    vk_result: int | None
    """The `VkResult` of the driver's call, where one failed."""
    item: int | None
    """Which item of a call that takes many, counted from 0."""

    def __init__(
        self,
        message: str = "",
        *,
        size: int | None = None,
        memory_type_index: int | None = None,
        heap_index: int | None = None,
        heap_usage: int | None = None,
        heap_budget: int | None = None,
        vk_result: int | None = None,
        item: int | None = None,
    ) -> None:
        super().__init__(message)
        # Plain instance attributes: BaseException pickles and copies `args` and `__dict__`.
        self.size = size
        self.memory_type_index = memory_type_index
        self.heap_index = heap_index
        self.heap_usage = heap_usage
        self.heap_budget = heap_budget
        self.vk_result = vk_result
        self.item = item


class OutOfDeviceMemoryError(VkMemError, MemoryError):
    """No memory type that serves has room, in the driver, the budget, the limits or the pool.

    `VK_ERROR_OUT_OF_DEVICE_MEMORY` (-2).
    """


class OutOfHostMemoryError(VkMemError, MemoryError):
    """The driver or the allocator has no host memory left. `VK_ERROR_OUT_OF_HOST_MEMORY` (-1)."""


class TooManyObjectsError(VkMemError):
    """The device allows no further memory object: `maxMemoryAllocationCount`.

    `VK_ERROR_TOO_MANY_OBJECTS` (-10).
    """


class FeatureNotPresentError(VkMemError):
    """The device, or what was enabled on it, lacks what the call needs.

    Also raised where no memory type fits the flags that are required.
    `VK_ERROR_FEATURE_NOT_PRESENT` (-8).
    """


class MemoryMapError(VkMemError):
    """Memory could not be mapped, or is not host-visible. `VK_ERROR_MEMORY_MAP_FAILED` (-5)."""


class CorruptionError(VkMemError):
    """The bookkeeping of an allocator is broken; `Allocator.validate` says how.

    A bug of this library, or memory of this process that something wrote over.
    """


class InvalidArgumentError(VkMemError, ValueError):
    """An argument has no meaning in Vulkan or does not fit another one. No driver was called.

    Where VMA answers `VK_ERROR_INITIALIZATION_FAILED` (-3) or asserts.
    """


class UseAfterFreeError(VkMemError, ValueError):
    """An object was used after its `destroy()`, `free()` or `close()`. No `VkResult`."""


class DeviceLostError(VkMemError):
    """The device is lost: destroy what lives on it and open it anew.

    `VK_ERROR_DEVICE_LOST` (-4).
    """


class InitializationError(VkMemError, RuntimeError):
    """No Vulkan loader, no driver or no fitting device was found, or one could not be opened.

    `VK_ERROR_INITIALIZATION_FAILED` (-3), `VK_ERROR_INCOMPATIBLE_DRIVER` (-9),
    `VK_ERROR_LAYER_NOT_PRESENT` (-6).
    """


class DumpError(VkMemError, ValueError):
    """A dump is cut off, of another format, or contradicts itself. No `VkResult`."""


class UnflushedWriteWarning(RuntimeWarning):
    """The host wrote to memory that is not coherent, and did not flush before the device used it.

    Issued on simulated devices alone, which can tell: by `Device.copy_buffer` and its relatives
    where they read or write such bytes, and where a `MAPPED` resource ends with them. It names the
    resource and the range.
    """

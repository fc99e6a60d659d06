"""The errors of vk-mem. All derive from `VkMemError`, which has figures as attributes.

Out-of-memory errors are also `MemoryError`, wrong arguments also `ValueError`, so code without
Vulkan knowledge can catch them. `UnflushedWriteWarning` is a warning, not an error.
"""

from __future__ import annotations

__all__ = [
    "CorruptionError",
    "DeviceLostError",
    "DumpError",
    "FeatureNotPresentError",
    "InitializationError",
    "InvalidArgumentError",
    "LostError",
    "MemoryMapError",
    "OutOfDeviceMemoryError",
    "OutOfHostMemoryError",
    "TooManyObjectsError",
    "UnflushedWriteWarning",
    "UseAfterFreeError",
    "VkMemError",
]


class VkMemError(Exception):
    """Base class; raised itself for a `VkResult` that has no class here.

    A figure is `None` if it is unknown or does not apply.
    """

    size: int | None
    """The requested size in bytes."""
    memory_type_index: int | None
    """The memory type of the last attempt."""
    heap_index: int | None
    """The heap of that memory type."""
    heap_usage: int | None
    """Bytes in use on that heap when the request failed."""
    heap_budget: int | None
    """Bytes that this process may use on that heap."""
    vk_result: int | None
    """The `VkResult` of the driver call that failed, if one did."""
    item: int | None
    """Index of the failed item, from 0, in a call that takes many."""

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
    """No allowed memory type has room: the driver, a budget, a heap limit or the pool is exhausted.

    `VK_ERROR_OUT_OF_DEVICE_MEMORY` (-2).
    """


class OutOfHostMemoryError(VkMemError, MemoryError):
    """The driver or the allocator is out of host memory. `VK_ERROR_OUT_OF_HOST_MEMORY` (-1)."""


class TooManyObjectsError(VkMemError):
    """The device allows no more `VkDeviceMemory` objects: `maxMemoryAllocationCount`.

    `VK_ERROR_TOO_MANY_OBJECTS` (-10).
    """


class FeatureNotPresentError(VkMemError):
    """The device lacks a feature or extension that the call needs, or it was not enabled.

    Also raised if no memory type has the required property flags.
    `VK_ERROR_FEATURE_NOT_PRESENT` (-8).
    """


class MemoryMapError(VkMemError):
    """Memory is not host-visible, or mapping it failed. `VK_ERROR_MEMORY_MAP_FAILED` (-5)."""


class CorruptionError(VkMemError):
    """An allocator's bookkeeping is inconsistent; `Allocator.validate` says how.

    Either a bug in this library, or something overwrote its memory in this process.
    """


class InvalidArgumentError(VkMemError, ValueError):
    """An argument is invalid in Vulkan or contradicts another. No driver call was made.

    VMA returns `VK_ERROR_INITIALIZATION_FAILED` (-3) or asserts in these cases.
    """


class UseAfterFreeError(VkMemError, ValueError):
    """An object was used after its `destroy()`, `free()` or `close()`. No `VkResult`."""


class LostError(UseAfterFreeError):
    """A resource was used whose memory was taken away: it was created with `CAN_BECOME_LOST`.

    `Resource.touch` says whether it is still there, without an exception. No `VkResult`.
    """


class DeviceLostError(VkMemError):
    """The device is lost: destroy all its objects and open it again.

    `VK_ERROR_DEVICE_LOST` (-4).
    """


class InitializationError(VkMemError, RuntimeError):
    """No Vulkan loader, driver or matching device was found, or opening it failed.

    `VK_ERROR_INITIALIZATION_FAILED` (-3), `VK_ERROR_INCOMPATIBLE_DRIVER` (-9),
    `VK_ERROR_LAYER_NOT_PRESENT` (-6).
    """


class DumpError(VkMemError, ValueError):
    """A dump is truncated, of an unknown format, or inconsistent. No `VkResult`."""


class UnflushedWriteWarning(RuntimeWarning):
    """The host wrote to non-coherent memory and did not flush before the device used it.

    Only simulated devices can detect this. They warn when `Device.copy_buffer` or another transfer
    reads or overwrites such bytes, and when a `MAPPED` resource is destroyed with them. The warning
    names the resource and the range.
    """

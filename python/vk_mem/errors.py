"""The errors of vk-mem. All derive from `VkMemError`, which has figures as attributes.

Out-of-memory errors are also `MemoryError`, wrong arguments also `ValueError`, so code without
Vulkan knowledge can catch them. `UnflushedWriteWarning` and `CorruptionWarning` are warnings,
not errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vk_mem._records import AllocationRecord
    from vk_mem._vk_mem import Allocation, Buffer, Image, _HostBytes

__all__ = [
    "CorruptionError",
    "CorruptionWarning",
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
    "TraceError",
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
    """Memory was written that nobody may write; or an allocator's bookkeeping is inconsistent.

    With `Debug(detect_corruption=True)` or a quarantine it is raised by `check_corruption`, and by
    the calls that free memory or begin a frame. Its text is a report of some lines; the attributes
    have its figures. Where memory is freed, that has been done when it is raised.

    `Allocator.validate` raises it for inconsistent bookkeeping: either a bug in this library, or
    something overwrote its memory in this process. The attributes are None then. No `VkResult`.
    """

    record: AllocationRecord | None
    """The allocation beside which, or in which, something was written."""
    region: str | None
    """Where that was: "before" or "behind" the allocation, or in it after it was "freed"."""
    offset: int | None
    """The first wrong byte, counted from the start of the allocation: negative before it."""
    length: int | None
    """Bytes from the first to the last wrong byte."""
    count: int | None
    """Number of wrong bytes."""
    found: bytes | None
    """What was found from the first wrong byte on, at most 64 bytes."""
    expected: bytes | None
    """What should have been found there."""
    before: AllocationRecord | None
    """The next live allocation before it in its memory object."""
    after: AllocationRecord | None
    """The next live allocation behind it in its memory object."""
    others: tuple[CorruptionError, ...]
    """What the same call has found besides."""

    def __init__(
        self,
        message: str = "",
        *,
        record: AllocationRecord | None = None,
        region: str | None = None,
        offset: int | None = None,
        length: int | None = None,
        count: int | None = None,
        found: bytes | None = None,
        expected: bytes | None = None,
        before: AllocationRecord | None = None,
        after: AllocationRecord | None = None,
        **figures: Any,
    ) -> None:
        super().__init__(message, **figures)
        self.record = record
        self.region = region
        self.offset = offset
        self.length = length
        self.count = count
        self.found = found
        self.expected = expected
        self.before = before
        self.after = after
        self.others = ()

    @property
    def allocation(self) -> Buffer | Image | Allocation | _HostBytes | None:
        """The resource, allocation or `BufferSlice`; None if the object does not exist any more."""
        return self.record.allocation if self.record else None

    @property
    def name(self) -> str | None:
        """The name of the allocation."""
        return self.record.name if self.record else None

    @property
    def call_site(self) -> str | None:
        """Where the allocation was created, if `track_call_sites` is set."""
        return self.record.call_site if self.record else None

    @property
    def freed_at(self) -> str | None:
        """Where the allocation was freed, if it was and `track_call_sites` is set."""
        return self.record.freed_call_site if self.record else None


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


class TraceError(VkMemError, ValueError):
    """A file is no trace, or is damaged; or a trace cannot be played as asked. No `VkResult`."""

    line: int | None
    """The line of a text file, from 1."""
    offset: int | None
    """The byte of a binary file, from 0."""

    def __init__(
        self,
        message: str = "",
        *,
        line: int | None = None,
        offset: int | None = None,
        **figures: Any,
    ) -> None:
        super().__init__(message, **figures)
        self.line = line
        self.offset = offset


class UnflushedWriteWarning(RuntimeWarning):
    """The host wrote to non-coherent memory and did not flush before the device used it.

    Only simulated devices can detect this. They warn when `Device.copy_buffer` or another transfer
    reads or overwrites such bytes, and when a `MAPPED` resource is destroyed with them. The warning
    names the resource and the range.
    """


class CorruptionWarning(RuntimeWarning):
    """What `CorruptionError` says, where nothing can be raised and `on_corruption` has no callback.

    So `Allocator.close` and `Pool.close` report what they find, and a call that creates something
    what it finds in memory that leaves the quarantine. Also says, once for each reason, what cannot
    be filled or checked.
    """

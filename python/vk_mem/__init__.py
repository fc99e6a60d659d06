"""vk-mem: Vulkan memory for Python.

Start with a `Device` (`Device.open()`, `Device.wrap(...)`, or a `SimulatedDevice`) and an
`Allocator` on it.
"""

import atexit as _atexit
import os as _os
import sys as _sys
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from vk_mem import interop
from vk_mem._lazy import attribute as _attribute
from vk_mem._lazy import load as _load
from vk_mem._vk_mem import (
    Allocation,
    AllocationCreateInfo,
    Allocator,
    Buffer,
    Defragmentation,
    DefragmentationDestination,
    DefragmentationMove,
    DefragmentationPass,
    Device,
    DeviceMemoryEvent,
    DeviceProperties,
    HeapBudget,
    Image,
    Mapping,
    MemoryHeap,
    MemoryProperties,
    MemoryType,
    PhysicalDevice,
    Pool,
    PoolStatistics,
    Recording,
    RegisteredArray,
    Resource,
    Ring,
    SimulatedDevice,
    Statistics,
    TotalStatistics,
    Transfer,
    Transfers,
    Violation,
    VirtualAllocation,
    VirtualBlock,
    __version__,
    _after_fork_in_child,
    _close_all_at_exit,
    _look_up_names,
    _look_up_other_names,
    list_physical_devices,
    record,
)
from vk_mem.dump import diff, load_dump
from vk_mem.dump.evictions import EvictionStatistics
from vk_mem.dump.held import DebugStatistics
from vk_mem.errors import (
    CorruptionError,
    CorruptionWarning,
    DeviceLostError,
    DumpError,
    FeatureNotPresentError,
    InitializationError,
    InvalidArgumentError,
    LostError,
    MemoryMapError,
    OutOfDeviceMemoryError,
    OutOfHostMemoryError,
    TooManyObjectsError,
    TraceError,
    UnflushedWriteWarning,
    UseAfterFreeError,
    VkMemError,
)
from vk_mem.flags import (
    AllocationCreateFlags,
    BufferCreateFlags,
    BufferUsage,
    DefragmentationMoveOperation,
    DeviceFaultAddressType,
    DeviceType,
    ExternalMemoryHandleType,
    Filter,
    Format,
    ImageAspect,
    ImageCreateFlags,
    ImageLayout,
    ImageTiling,
    ImageType,
    ImageUsage,
    MemoryHeapFlags,
    MemoryPropertyFlags,
    MemoryUsage,
    QueueFlags,
    SampleCount,
    SharingMode,
)
from vk_mem.memory.arrays import SubresourceLayout
from vk_mem.memory.buffer_range import BufferRange
from vk_mem.memory.defragmentation import (
    DefragmentationPolicy,
    DefragmentationStatistics,
    Location,
    Move,
)
from vk_mem.memory.transfers import TransferStatistics
from vk_mem.memory.virtual import VirtualAllocations, VirtualMove
from vk_mem.observe.tables import HeapBudgets

if _TYPE_CHECKING:
    from vk_mem import trace, view
    from vk_mem._records import AllocationRecord
    from vk_mem.debugging.options import Debug
    from vk_mem.dump import Diff, Dump
    from vk_mem.memory.buffer_heap import BufferHeap, BufferSlice
    from vk_mem.memory.resource_cache import ResourceCache
    from vk_mem.memory.retention import EmptyBlockRetention
    from vk_mem.observe.faults import AddressOwner, FaultAddress, FaultReport, FaultVendorInfo
    from vk_mem.observe.leaks import Leak, Leaks
    from vk_mem.observe.measure import Measurement, statistics
    from vk_mem.observe.serve import StatsServer, serve_stats

__all__ = [
    "AddressOwner",
    "Allocation",
    "AllocationCreateFlags",
    "AllocationCreateInfo",
    "AllocationRecord",
    "Allocator",
    "Buffer",
    "BufferCreateFlags",
    "BufferHeap",
    "BufferRange",
    "BufferSlice",
    "BufferUsage",
    "CorruptionError",
    "CorruptionWarning",
    "Debug",
    "DebugStatistics",
    "Defragmentation",
    "DefragmentationDestination",
    "DefragmentationMove",
    "DefragmentationMoveOperation",
    "DefragmentationPass",
    "DefragmentationPolicy",
    "DefragmentationStatistics",
    "Device",
    "DeviceFaultAddressType",
    "DeviceLostError",
    "DeviceMemoryEvent",
    "DeviceProperties",
    "DeviceType",
    "Diff",
    "Dump",
    "DumpError",
    "EmptyBlockRetention",
    "EvictionStatistics",
    "ExternalMemoryHandleType",
    "FaultAddress",
    "FaultReport",
    "FaultVendorInfo",
    "FeatureNotPresentError",
    "Filter",
    "Format",
    "HeapBudget",
    "HeapBudgets",
    "Image",
    "ImageAspect",
    "ImageCreateFlags",
    "ImageLayout",
    "ImageTiling",
    "ImageType",
    "ImageUsage",
    "InitializationError",
    "InvalidArgumentError",
    "Leak",
    "Leaks",
    "Location",
    "LostError",
    "Mapping",
    "Measurement",
    "MemoryHeap",
    "MemoryHeapFlags",
    "MemoryMapError",
    "MemoryProperties",
    "MemoryPropertyFlags",
    "MemoryType",
    "MemoryUsage",
    "Move",
    "OutOfDeviceMemoryError",
    "OutOfHostMemoryError",
    "PhysicalDevice",
    "Pool",
    "PoolStatistics",
    "QueueFlags",
    "Recording",
    "RegisteredArray",
    "Resource",
    "ResourceCache",
    "Ring",
    "SampleCount",
    "SharingMode",
    "SimulatedDevice",
    "Statistics",
    "StatsServer",
    "SubresourceLayout",
    "TooManyObjectsError",
    "TotalStatistics",
    "TraceError",
    "Transfer",
    "TransferStatistics",
    "Transfers",
    "UnflushedWriteWarning",
    "UseAfterFreeError",
    "Violation",
    "VirtualAllocation",
    "VirtualAllocations",
    "VirtualBlock",
    "VirtualMove",
    "VkMemError",
    "__version__",
    "diff",
    "interop",
    "list_physical_devices",
    "load_dump",
    "record",
    "serve_stats",
    "statistics",
    "trace",
    "view",
]


_MODULES = {
    "vk_mem._records": ("AllocationRecord",),
    "vk_mem.debugging.options": ("Debug",),
    "vk_mem.dump": ("Diff", "Dump"),
    "vk_mem.memory.buffer_heap": ("BufferHeap", "BufferSlice"),
    "vk_mem.memory.resource_cache": ("ResourceCache",),
    "vk_mem.memory.retention": ("EmptyBlockRetention",),
    "vk_mem.observe.faults": ("AddressOwner", "FaultAddress", "FaultReport", "FaultVendorInfo"),
    "vk_mem.observe.leaks": ("Leak", "Leaks"),
    "vk_mem.observe.measure": ("Measurement", "statistics"),
    "vk_mem.observe.serve": ("StatsServer", "serve_stats"),
}


def __getattr__(name: str) -> _Any:
    """Imports on first use what many programs never need."""
    if name in ("trace", "view"):
        return _load(f"vk_mem.{name}")
    return _attribute(__name__, _MODULES, name)


def __dir__() -> list[str]:
    """Lists what is not imported yet as well."""
    return sorted({*globals(), *__all__})


# Loads now what the native module needs: while the interpreter shuts down, imports fail.
_look_up_names()


def _load_for_the_end() -> None:
    """Loads what a call of an allocator may need that is left open until imports fail.

    An object keeps its class, so the class has more references if there is an allocator. Names that
    a program gave to it count as well, and cost a few milliseconds here.
    """
    if _sys.getrefcount(Allocator) > _ALLOCATOR_REFERENCES:
        for module in _FOR_THE_END:
            _load(module)
        _look_up_other_names()


_FOR_THE_END = (
    "vk_mem.debugging.options",
    "vk_mem.dump.load",
    "vk_mem.dump.compare",
    "vk_mem.memory.retention",
)
_ALLOCATOR_REFERENCES = _sys.getrefcount(Allocator)
_atexit.register(_load_for_the_end)
# Closes open allocators while the interpreter can still report what they hold.
_atexit.register(_close_all_at_exit)
# A driver's threads and locks do not survive a fork: calls in the child raise instead of hanging.
if hasattr(_os, "register_at_fork"):
    _os.register_at_fork(after_in_child=_after_fork_in_child)

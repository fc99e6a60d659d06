from vk_mem._vk_mem.allocator import Allocator, _HeapDebugger, _record_ranges, record
from vk_mem._vk_mem.lifetime import DeviceMemoryEvent, _close_all_at_exit
from vk_mem._vk_mem.memory import Mapping, _HostBytes
from vk_mem._vk_mem.moving import (
    Defragmentation,
    DefragmentationDestination,
    DefragmentationMove,
    DefragmentationPass,
)
from vk_mem._vk_mem.objects.allocation import Allocation
from vk_mem._vk_mem.objects.allocation_create_info import AllocationCreateInfo
from vk_mem._vk_mem.objects.buffer import Buffer
from vk_mem._vk_mem.objects.device import Device, list_physical_devices
from vk_mem._vk_mem.objects.device_info import (
    DeviceProperties,
    MemoryHeap,
    MemoryProperties,
    MemoryType,
    PhysicalDevice,
)
from vk_mem._vk_mem.objects.image import Image
from vk_mem._vk_mem.objects.pool import Pool
from vk_mem._vk_mem.objects.recording import Recording, Ring
from vk_mem._vk_mem.objects.resource import Resource
from vk_mem._vk_mem.objects.simulated import SimulatedDevice
from vk_mem._vk_mem.objects.statistics import (
    HeapBudget,
    PoolStatistics,
    Statistics,
    TotalStatistics,
)
from vk_mem._vk_mem.objects.violation import Violation
from vk_mem._vk_mem.objects.virtual_block import VirtualAllocation, VirtualBlock
from vk_mem._vk_mem.objects.virtual_blocks import _Range, _VirtualBlocks
from vk_mem._vk_mem.objects.watch import _EventCounter, _Watch
from vk_mem._vk_mem.package import _look_up_names, _look_up_other_names
from vk_mem._vk_mem.process import _after_fork_in_child
from vk_mem._vk_mem.trace import _Replayed, _TraceColumn, _TraceData
from vk_mem._vk_mem.transfer import RegisteredArray, Transfer, Transfers, _TransferBatch

__all__ = [
    "Allocation",
    "AllocationCreateInfo",
    "Allocator",
    "Buffer",
    "Defragmentation",
    "DefragmentationDestination",
    "DefragmentationMove",
    "DefragmentationPass",
    "Device",
    "DeviceMemoryEvent",
    "DeviceProperties",
    "HeapBudget",
    "Image",
    "Mapping",
    "MemoryHeap",
    "MemoryProperties",
    "MemoryType",
    "PhysicalDevice",
    "Pool",
    "PoolStatistics",
    "Recording",
    "RegisteredArray",
    "Resource",
    "Ring",
    "SimulatedDevice",
    "Statistics",
    "TotalStatistics",
    "Transfer",
    "Transfers",
    "Violation",
    "VirtualAllocation",
    "VirtualBlock",
    "_EventCounter",
    "_HeapDebugger",
    "_HostBytes",
    "_Range",
    "_Replayed",
    "_TraceColumn",
    "_TraceData",
    "_TransferBatch",
    "_VirtualBlocks",
    "_Watch",
    "__version__",
    "_after_fork_in_child",
    "_close_all_at_exit",
    "_look_up_names",
    "_look_up_other_names",
    "_record_ranges",
    "list_physical_devices",
    "record",
]

__version__: str

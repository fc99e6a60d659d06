"""Reads what an examination needs to know of a device, and tries whether the device works."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import vk_mem
from vk_mem.errors import VkMemError
from vk_mem.flags import DeviceType, MemoryHeapFlags, MemoryPropertyFlags

__all__ = ["DeviceFacts", "Heap", "MemoryType", "facts_of", "facts_of_unopened"]

TIMED_SIZE = 64 << 20
"""Bytes that are taken from the driver to see how long it needs."""
ROOM_TO_TIME = 16 * TIMED_SIZE
"""Bytes of a heap that must be left for that, so that other programs do not notice."""
TRIED_BYTES = bytes(range(256)) * 256


@dataclass(frozen=True)
class Heap:
    """One heap. Sizes are bytes."""

    size: int
    device_local: bool
    budget: int | None
    usage: int | None


@dataclass(frozen=True)
class MemoryType:
    """One memory type, with `VkMemoryPropertyFlags`."""

    heap: int
    flags: int

    def has(self, flags: MemoryPropertyFlags) -> bool:
        """Returns whether the type has all of these properties."""
        return self.flags & flags == flags


@dataclass(frozen=True)
class DeviceFacts:
    """A device as plain values, which one process can hand to another."""

    name: str
    kind: str
    """A name of `DeviceType`."""
    simulated: bool
    driver: str
    vendor_id: int
    api_version: tuple[int, int, int]
    extensions: tuple[str, ...]
    """What the device has; of a simulated one, what is in use."""
    enabled: tuple[str, ...]
    """What `Device.open` uses of these."""
    features: tuple[str, ...]
    limits: dict[str, int]
    heaps: tuple[Heap, ...]
    types: tuple[MemoryType, ...]
    error: str = ""
    """Why it cannot be opened, or why the trial failed."""
    seconds: dict[int, float] = field(default_factory=dict)
    """By memory type: how long the driver needed for 64 MiB. Empty if it was not timed."""

    @property
    def is_cpu(self) -> bool:
        """Whether the processor does the work of a graphics card."""
        return self.kind == DeviceType.CPU.name

    @property
    def shares_memory(self) -> bool:
        """Whether the device has no memory of its own, but uses that of the computer."""
        return all(heap.device_local for heap in self.heaps) or self.kind in (
            DeviceType.INTEGRATED_GPU.name,
            DeviceType.CPU.name,
        )

    @property
    def own_memory(self) -> int:
        """Bytes of the largest device-local heap."""
        return max((heap.size for heap in self.heaps if heap.device_local), default=0)

    def has_type(self, flags: MemoryPropertyFlags) -> bool:
        """Returns whether a memory type has all of these properties."""
        return any(it.has(flags) for it in self.types)

    def has_extension(self, name: str) -> bool:
        """Returns whether the device has an extension, in use or not."""
        return name in self.extensions or name in self.enabled

    def as_json(self) -> dict[str, Any]:
        """Returns the facts as values that JSON has."""
        found = asdict(self)
        found["seconds"] = {str(index): it for index, it in self.seconds.items()}
        return found

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self:
        """Reads what `as_json` wrote."""
        major, minor, patch = found["api_version"]
        return cls(
            **{
                **found,
                "api_version": (major, minor, patch),
                "extensions": tuple(found["extensions"]),
                "enabled": tuple(found["enabled"]),
                "features": tuple(found["features"]),
                "heaps": tuple(Heap(**it) for it in found["heaps"]),
                "types": tuple(MemoryType(**it) for it in found["types"]),
                "seconds": {int(index): it for index, it in found["seconds"].items()},
            }
        )


LIMITS = (
    "max_memory_allocation_count",
    "max_memory_allocation_size",
    "buffer_image_granularity",
    "non_coherent_atom_size",
    "min_memory_map_alignment",
)


def facts_of(device: vk_mem.Device, present: vk_mem.PhysicalDevice | None = None) -> DeviceFacts:
    """Reads the facts of an open device, and tries to copy something on it.

    `present` is the same device from `list_physical_devices`, which knows all extensions.
    """
    simulated = isinstance(device, vk_mem.SimulatedDevice)
    error, budgets, seconds = "", [], {}
    try:
        with vk_mem.Allocator(device) as allocator:
            budgets = [(it.budget, it.usage) for it in allocator.heap_budgets()]
            _try_out(allocator)
            # How long a simulated device takes says nothing about any machine.
            seconds = {} if simulated else _time_driver(allocator)
    except VkMemError as failed:
        error = str(failed)
    return _facts(
        device,
        device.properties,
        device.memory_properties,
        extensions=tuple(present.extensions) if present else device.extensions,
        enabled=device.extensions,
        features=device.features,
        budgets=budgets,
        error=error,
        seconds=seconds,
    )


def facts_of_unopened(present: vk_mem.PhysicalDevice, error: str) -> DeviceFacts:
    """Reads the facts of a device that cannot be opened, and why it cannot."""
    return _facts(
        None,
        present.properties,
        present.memory_properties,
        extensions=tuple(present.extensions),
        enabled=(),
        features=(),
        budgets=[],
        error=error,
        seconds={},
    )


def _facts(
    device: vk_mem.Device | None,
    properties: vk_mem.DeviceProperties,
    memory: vk_mem.MemoryProperties,
    *,
    extensions: tuple[str, ...],
    enabled: tuple[str, ...],
    features: tuple[str, ...],
    budgets: list[tuple[int, int]],
    error: str,
    seconds: dict[int, float],
) -> DeviceFacts:
    known: list[tuple[int | None, int | None]] = list(budgets)
    known += [(None, None)] * (len(memory.memory_heaps) - len(budgets))
    return DeviceFacts(
        name=properties.device_name,
        kind=properties.device_type.name,
        simulated=isinstance(device, vk_mem.SimulatedDevice),
        driver=properties.driver,
        vendor_id=properties.vendor_id,
        api_version=properties.api_version,
        extensions=tuple(sorted(extensions)),
        enabled=tuple(sorted(enabled)),
        features=tuple(sorted(features)),
        limits={name: getattr(properties, name) for name in LIMITS},
        heaps=tuple(
            Heap(heap.size, bool(heap.flags & MemoryHeapFlags.DEVICE_LOCAL), budget, usage)
            for heap, (budget, usage) in zip(memory.memory_heaps, known, strict=True)
        ),
        types=tuple(
            MemoryType(it.heap_index, int(it.property_flags)) for it in memory.memory_types
        ),
        error=error,
        seconds=seconds,
    )


def _try_out(allocator: vk_mem.Allocator) -> None:
    """Copies some bytes to the device and back. Raises `VkMemError` if they come back changed."""
    usage = vk_mem.BufferUsage.TRANSFER_SRC | vk_mem.BufferUsage.TRANSFER_DST
    host = vk_mem.AllocationCreateFlags.HOST_ACCESS_RANDOM
    size = len(TRIED_BYTES)
    with (
        allocator.create_buffer(size, usage, flags=host, name="doctor: sent") as sent,
        allocator.create_buffer(size, usage, name="doctor: on the device") as there,
        allocator.create_buffer(size, usage, flags=host, name="doctor: received") as received,
    ):
        sent.write(TRIED_BYTES)
        allocator.device.copy_buffer(sent, there)
        allocator.device.copy_buffer(there, received)
        if received.read() != TRIED_BYTES:
            raise VkMemError("64 KiB that went to the device and back came back changed")


def _time_driver(allocator: vk_mem.Allocator) -> dict[int, float]:
    """Times how long the driver needs for a block: of the device alone, and for uploads."""
    wanted = {
        allocator.find_memory_type_index_for_buffer_info(TIMED_SIZE, usage, flags=flags)
        for usage, flags in (
            (vk_mem.BufferUsage.STORAGE_BUFFER, vk_mem.AllocationCreateFlags(0)),
            (
                vk_mem.BufferUsage.TRANSFER_SRC,
                vk_mem.AllocationCreateFlags.HOST_ACCESS_SEQUENTIAL_WRITE,
            ),
        )
    }
    timed = {}
    types = allocator.device.memory_properties.memory_types
    for index in sorted(wanted):
        heap = allocator.heap_budgets()[types[index].heap_index]
        if heap.budget - heap.usage < ROOM_TO_TIME:
            continue
        began = time.perf_counter()
        taken = allocator.allocate_memory(
            TIMED_SIZE,
            memory_type_bits=1 << index,
            usage=vk_mem.MemoryUsage.UNKNOWN,
            flags=vk_mem.AllocationCreateFlags.DEDICATED_MEMORY,
            name="doctor: timed",
        )
        timed[index] = time.perf_counter() - began
        taken.free()
    return timed

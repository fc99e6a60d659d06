"""Events of allocations: what was asked for, used, named, lost and freed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from vk_mem.trace.event import Event
from vk_mem.trace.values import Failure, Object, Placement, Request

__all__ = [
    "Alias",
    "Allocate",
    "AllocateFailed",
    "BeginFrame",
    "CreateAllocator",
    "CreateLost",
    "CreatePool",
    "DestroyAllocator",
    "DestroyPool",
    "EvictOverBudget",
    "Flush",
    "Free",
    "Group",
    "Import",
    "Invalidate",
    "Lose",
    "MakeLost",
    "Map",
    "Name",
    "Query",
    "RequestFree",
    "Resize",
    "SetData",
    "Touch",
    "Unmap",
]


@dataclass(frozen=True, slots=True)
class Allocate(Event):
    """Memory was allocated, alone or for a resource."""

    allocation: int
    """Number of the allocation."""
    request: Request
    """All that it was asked for but the size."""
    size: int | None
    """Size in bytes that the resource requires; never 0."""
    buffer_size: int | None
    """`VkBufferCreateInfo::size`, only for a buffer; never 0."""
    placed: Placement | None
    """Where it is; None if the trace does not say."""
    name: str | None
    """The name that it was created with."""
    data: int | str | None
    """The custom data that it was created with."""

    kind: ClassVar[str] = "allocate"


@dataclass(frozen=True, slots=True)
class Free(Event):
    """An allocation, alias or import was freed, and its resource destroyed."""

    allocation: int
    """Number of the allocation."""

    kind: ClassVar[str] = "free"


@dataclass(frozen=True, slots=True)
class Map(Event):
    """Memory was mapped: `vmaMapMemory`."""

    allocation: int
    """Number of the allocation."""

    kind: ClassVar[str] = "map"


@dataclass(frozen=True, slots=True)
class Unmap(Event):
    """A map was undone: `vmaUnmapMemory`."""

    allocation: int
    """Number of the allocation."""

    kind: ClassVar[str] = "unmap"


@dataclass(frozen=True, slots=True)
class Flush(Event):
    """Host writes were made visible to the device: `vmaFlushAllocation`."""

    allocation: int
    """Number of the allocation."""
    offset: int
    """Offset in the allocation, in bytes."""
    size: int
    """Size in bytes; 2^64 - 1 for up to the end."""

    kind: ClassVar[str] = "flush"


@dataclass(frozen=True, slots=True)
class Invalidate(Event):
    """Device writes were made visible to the host: `vmaInvalidateAllocation`."""

    allocation: int
    """Number of the allocation."""
    offset: int
    """Offset in the allocation, in bytes."""
    size: int
    """Size in bytes; 2^64 - 1 for up to the end."""

    kind: ClassVar[str] = "invalidate"


@dataclass(frozen=True, slots=True)
class BeginFrame(Event):
    """A frame began, the frame of the event: `vmaSetCurrentFrameIndex`."""

    kind: ClassVar[str] = "begin_frame"


@dataclass(frozen=True, slots=True)
class CreateAllocator(Event):
    """An allocator was created; its number is that of the event."""

    options: dict[str, Any] | None
    """Its options."""

    kind: ClassVar[str] = "create_allocator"


@dataclass(frozen=True, slots=True)
class DestroyAllocator(Event):
    """An allocator was destroyed."""

    kind: ClassVar[str] = "destroy_allocator"


@dataclass(frozen=True, slots=True)
class CreatePool(Event):
    """A pool was created, or could not be."""

    pool: int | None
    """Number of the pool, if it was created."""
    info: dict[str, Any]
    """Its parameters, without a `pNext` chain."""
    has_next: bool
    """Whether there was a `pNext` chain, which traces do not contain."""
    failure: Failure | None
    """The reason, if it was not created."""

    kind: ClassVar[str] = "create_pool"


@dataclass(frozen=True, slots=True)
class DestroyPool(Event):
    """A pool was destroyed."""

    pool: int
    """Number of the pool."""

    kind: ClassVar[str] = "destroy_pool"


@dataclass(frozen=True, slots=True)
class AllocateFailed(Event):
    """An allocation failed."""

    request: Request
    """All that it was asked for but the size."""
    size: int | None
    """Size in bytes that the resource requires; never 0."""
    buffer_size: int | None
    """`VkBufferCreateInfo::size`, only for a buffer; never 0."""
    failure: Failure | None
    """The reason; None: it was undone, or not tried, as another of its group failed."""

    kind: ClassVar[str] = "allocate_failed"


@dataclass(frozen=True, slots=True)
class Group(Event):
    """The next events are one call: so many of the given kind, and those that failed."""

    calls: str
    """What they do: `allocate`, `free`, `flush`, `invalidate`, `virtual_allocate`, `virtual_free` or
    `virtual_move`."""
    count: int
    """Their number."""

    kind: ClassVar[str] = "group"


@dataclass(frozen=True, slots=True)
class Alias(Event):
    """A resource was placed in the memory of another one."""

    allocation: int
    """Number of the alias."""
    base: int
    """Number of the allocation in whose memory it is."""
    request: Request
    """What the resource requires, and what it is."""
    size: int | None
    """Size in bytes that the resource requires."""
    offset: int
    """Offset in the memory of the base, in bytes."""

    kind: ClassVar[str] = "alias"


@dataclass(frozen=True, slots=True)
class Import(Event):
    """External memory was imported."""

    allocation: int
    """Number of the allocation."""
    request: Request
    """What it was asked for; the requirements are those of the whole memory object."""
    whole_size: int
    """Size of the memory object in bytes."""
    offset: int
    """Offset of the resource in the memory object, in bytes."""
    size: int
    """Size of the resource in bytes."""
    handle_type: int
    """`VkExternalMemoryHandleTypeFlagBits`"""
    memory_type_index: int | None
    """The memory type that the memory was known to be of."""
    is_opaque: bool
    """Whether the memory type of the handle cannot be queried."""
    placed: Placement | None
    """Where it is."""

    kind: ClassVar[str] = "import"


@dataclass(frozen=True, slots=True)
class Name(Event):
    """An object got a name, or lost it."""

    object: Object
    """The object."""
    name: str | None
    """The name."""

    kind: ClassVar[str] = "name"


@dataclass(frozen=True, slots=True)
class SetData(Event):
    """Custom data of an allocation were set: `vmaSetAllocationUserData`."""

    allocation: int
    """Number of the allocation."""
    data: int | str | None
    """The data."""

    kind: ClassVar[str] = "set_data"


@dataclass(frozen=True, slots=True)
class Touch(Event):
    """Evictable allocations were used: `vmaTouchAllocation`."""

    allocations: tuple[int, ...]
    """Numbers of the allocations."""

    kind: ClassVar[str] = "touch"


@dataclass(frozen=True, slots=True)
class Lose(Event):
    """Allocations were lost: their memory was taken away for other use."""

    allocations: tuple[int, ...]
    """Numbers of the allocations."""

    kind: ClassVar[str] = "lose"


@dataclass(frozen=True, slots=True)
class MakeLost(Event):
    """All evictable allocations that may be taken were: `vmaMakePoolAllocationsLost`."""

    pool: int | None
    """Number of the pool; None: all pools."""
    count: int | None
    """How many were lost, if the trace says it."""

    kind: ClassVar[str] = "make_lost"


@dataclass(frozen=True, slots=True)
class CreateLost(Event):
    """An allocation was created that is lost: `vmaCreateLostAllocation`."""

    allocation: int
    """Number of the allocation."""

    kind: ClassVar[str] = "create_lost"


@dataclass(frozen=True, slots=True)
class EvictOverBudget(Event):
    """Evictable allocations of heaps above their budget were taken away."""

    bytes: int
    """Bytes that were taken away."""

    kind: ClassVar[str] = "evict_over_budget"


@dataclass(frozen=True, slots=True)
class Query(Event):
    """An allocation was asked for its state: `vmaGetAllocationInfo`, which VMA 2.3 counts as a
    use."""

    allocation: int
    """Number of the allocation."""

    kind: ClassVar[str] = "query"


@dataclass(frozen=True, slots=True)
class Resize(Event):
    """The size of an allocation was changed in place: `vmaResizeAllocation` of VMA 2.2."""

    allocation: int
    """Number of the allocation."""
    size: int
    """New size in bytes."""

    kind: ClassVar[str] = "resize"


@dataclass(frozen=True, slots=True)
class RequestFree(Event):
    """It was asked to free an allocation, which happens once the device has used it for the last
    time."""

    allocation: int
    """Number of the allocation."""

    kind: ClassVar[str] = "request_free"

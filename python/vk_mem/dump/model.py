"""The contents of a dump as plain data. All sizes and offsets are in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from vk_mem._lazy import load
from vk_mem.dump.evictions import NO_EVICTIONS, EvictionStatistics
from vk_mem.dump.held import NOTHING_HELD, DebugStatistics
from vk_mem.text import counted, known_size

__all__ = [
    "Block",
    "Dump",
    "Figures",
    "Heap",
    "MemoryType",
    "PoolDump",
    "Region",
    "ResourceClass",
]


class ResourceClass(Enum):
    """The kind of resource in a region, independent of the format of the dump."""

    FREE = "unused"
    MARGIN = "margin"
    QUARANTINED = "in quarantine"
    UNKNOWN = "memory"
    BUFFER = "buffer"
    IMAGE_UNKNOWN = "image"
    IMAGE_LINEAR = "linear image"
    IMAGE_OPTIMAL = "optimal image"


# Dumps have millions of regions: looking these up in the class takes several times as long.
FREE, MARGIN, QUARANTINED = (
    ResourceClass.FREE,
    ResourceClass.MARGIN,
    ResourceClass.QUARANTINED,
)


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of blocks, allocations and unused ranges, as the dump states them (`Stats`).

    The smallest and largest sizes are None if there are no allocations or unused ranges.
    """

    block_count: int
    block_bytes: int
    allocation_count: int
    allocation_bytes: int
    unused_range_count: int
    allocation_size_min: int | None = None
    allocation_size_max: int | None = None
    unused_range_size_min: int | None = None
    unused_range_size_max: int | None = None


@dataclass(frozen=True, slots=True)
class Region:
    """A range of a block, or a whole dedicated memory object."""

    offset: int
    """Offset in its block; 0 for dedicated memory."""
    size: int
    resource_class: ResourceClass
    usage: int = 0
    """`VkBufferUsageFlags`, `VkImageUsageFlags` or `D3D12_RESOURCE_FLAGS`; 0 if unknown."""
    name: str | None = None
    custom_data: str | None = None
    """User data, as the dump prints it."""
    type_name: str = ""
    """The type as the dump writes it: `BUFFER`, `IMAGE_OPTIMAL`, `TEXTURE2D` ..."""
    layout: int | None = None
    """`D3D12_TEXTURE_LAYOUT` or an image layout, if the dump has it."""
    call_site: str | None = None
    """Where it was created, if the allocator tracks call sites: one `file:line in function` per
    line, innermost first."""
    aliases: tuple[Region, ...] = ()
    """Other resources in the same memory. Their offsets count from the start of the block, too."""
    last_use: int | None = field(default=None, compare=False)
    """The frame of its last use, if it may be lost (`CAN_BECOME_LOST`)."""
    margins: tuple[int, int] = (0, 0)
    """Bytes of the margins before and behind dedicated memory, which `size` does not have. Those in
    blocks are regions of their own."""

    @property
    def is_free(self) -> bool:
        """Whether the region is unused. Margins and memory in quarantine are not."""
        return self.resource_class is ResourceClass.FREE

    @property
    def is_allocation(self) -> bool:
        """Whether the region is in use: neither unused, nor a margin, nor in quarantine."""
        held = self.resource_class
        return not (held is FREE or held is MARGIN or held is QUARANTINED)

    @property
    def end(self) -> int:
        """Offset of the first byte after it."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Block:
    """A memory object that is divided into regions."""

    id: str
    size: int
    regions: tuple[Region, ...]
    """By ascending offset. Resources that share memory are in the `aliases` of one region."""
    map_count: int = 0
    """How many times it is mapped now."""

    @property
    def allocations(self) -> Iterator[Region]:
        """The regions that are in use."""
        return (region for region in self.regions if region.is_allocation)

    @property
    def allocated(self) -> int:
        """Bytes in use; bytes that several regions share count once."""
        # Dumps have millions of regions: no function calls in this loop.
        total = end = 0
        for region in self.regions:
            held = region.resource_class
            if held is not FREE and held is not MARGIN and held is not QUARANTINED:
                start = region.offset
                stop = start + region.size
                if stop > end:
                    total += stop - (start if start > end else end)
                    end = stop
        return total

    @property
    def fragmentation(self) -> float:
        """1 - largest unused range / all unused bytes: 0 if the unused bytes are one range, close
        to 1 if they are scattered, and 0 for a full block."""
        unused = [region.size for region in self.regions if region.resource_class is FREE]
        # A dump may have unused ranges of 0 bytes.
        return 1 - max(unused) / sum(unused) if any(unused) else 0.0


@dataclass(frozen=True, slots=True)
class PoolDump:
    """The blocks and dedicated allocations of a memory type's default pool, or of a custom pool."""

    type_name: str
    """The memory type: `Type 3`, or a heap type of Direct3D 12 such as `UPLOAD`."""
    name: str | None
    """Number and name of a custom pool: `0 - textures`. None for a default pool."""
    preferred_block_size: int
    flags: tuple[str, ...]
    blocks: tuple[Block, ...]
    dedicated: tuple[Region, ...]
    """Allocations that have their own memory object, and those in quarantine that had one."""

    @property
    def held(self) -> tuple[int, int]:
        """Bytes of margins, and of what is in quarantine."""
        margins = quarantined = 0
        for block in self.blocks:
            for region in block.regions:
                if region.resource_class is MARGIN:
                    margins += region.size
                elif region.resource_class is QUARANTINED:
                    quarantined += region.size
        for region in self.dedicated:
            margins += sum(region.margins)
            quarantined += 0 if region.is_allocation else region.size
        return margins, quarantined

    @property
    def title(self) -> str:
        """A title for people: `Type 3` or `Type 3, pool 0 - textures`."""
        return self.type_name if self.name is None else f"{self.type_name}, pool {self.name}"


@dataclass(frozen=True, slots=True)
class MemoryType:
    """A memory type (`Type 3`), or a heap type of Direct3D 12 (`UPLOAD`)."""

    name: str
    flags: tuple[str, ...]
    figures: Figures


@dataclass(frozen=True, slots=True)
class Heap:
    """A memory heap (`Heap 0`), or a memory segment of Direct3D 12 (`L0`)."""

    name: str
    flags: tuple[str, ...]
    size: int | None
    """None if the dump does not say."""
    budget: int | None
    usage: int | None
    figures: Figures
    memory_types: tuple[MemoryType, ...]
    margins: int = 0
    """Bytes of margins; 0 if the dump does not list them."""
    quarantined: int = 0
    """Bytes of what is in quarantine; 0 if the dump does not list it."""

    @property
    def held(self) -> int:
        """Bytes of margins and of what is in quarantine."""
        return self.margins + self.quarantined

    @property
    def known_budget(self) -> int | None:
        """`budget`, or None for a value that stands for "no budget"."""
        return known_size(self.budget)

    @property
    def known_usage(self) -> int | None:
        """`usage`, or None for a value that stands for "unknown"."""
        return known_size(self.usage)


@dataclass(frozen=True)
class Dump:
    """The state of an allocator at one moment: from `load_dump` or `Allocator.snapshot`."""

    api: str
    """`Vulkan` or `Direct3D 12`."""
    device: str
    """Name of the GPU; "" if the dump does not say."""
    general: dict[str, str | int | bool]
    """What the dump says about the device and its limits, under the dump's own names."""
    total: Figures
    heaps: tuple[Heap, ...]
    pools: tuple[PoolDump, ...]
    """The default pools first. Empty if the dump is not detailed."""
    detailed: bool
    """Whether the dump lists individual blocks and allocations."""
    source: str = field(default="", compare=False)
    """The file it was read from; "" for a text and for a live allocator."""
    evictions: EvictionStatistics = NO_EVICTIONS
    """What may be lost and what was; zeros if the dump says nothing of that."""
    debug: DebugStatistics = NOTHING_HELD
    """Margins and what is in quarantine; zeros if the dump says nothing of that. VMA counts both as
    unused, and so do the `Figures`."""

    def allocations(self) -> Iterator[tuple[PoolDump, Block | None, Region]]:
        """Yields every allocation with its pool and block; a dedicated one has no block."""
        for pool in self.pools:
            for block in pool.blocks:
                for region in block.regions:
                    if region.is_allocation:
                        yield pool, block, region
            for region in pool.dedicated:
                if region.is_allocation:
                    yield pool, None, region

    def _repr_html_(self) -> str:
        """Returns an HTML table for notebooks."""
        html: str = load("vk_mem.dump.summary").summary_html(self)
        return html

    def __repr__(self) -> str:
        total = self.total
        return (
            f"<vk_mem.Dump of {self.device or self.api}: "
            f"{counted(total.allocation_count, 'allocation')} of "
            f"{counted(total.allocation_bytes, 'byte')} in "
            f"{counted(total.block_count, 'block')} of {counted(total.block_bytes, 'byte')}>"
        )

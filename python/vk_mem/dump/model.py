"""What a dump says, as plain data. All sizes and offsets are bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from vk_mem._lazy import load
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
    """What a region holds, whatever the format of the dump calls it."""

    FREE = "unused"
    UNKNOWN = "memory"
    BUFFER = "buffer"
    IMAGE_UNKNOWN = "image"
    IMAGE_LINEAR = "linear image"
    IMAGE_OPTIMAL = "optimal image"


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of blocks, allocations and unused ranges, as the dump states them (`Stats`).

    The smallest and largest sizes are None where there is nothing to measure.
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
    """A range of a block, or a whole memory object if it is dedicated."""

    offset: int
    """In its block; 0 for dedicated memory."""
    size: int
    resource_class: ResourceClass
    usage: int = 0
    """`VkBufferUsageFlags`, `VkImageUsageFlags` or `D3D12_RESOURCE_FLAGS`; 0 if not known."""
    name: str | None = None
    custom_data: str | None = None
    """User data as the dump prints it."""
    type_name: str = ""
    """As the dump writes it: `BUFFER`, `IMAGE_OPTIMAL`, `TEXTURE2D` ..."""
    layout: int | None = None
    """`D3D12_TEXTURE_LAYOUT` and the like, where the dump has it."""
    call_site: str | None = None
    """Where it was created, if the allocator tracks that: one `file:line in function` a line, the
    innermost first."""
    aliases: tuple[Region, ...] = ()
    """Other resources that lie in its memory; their offsets count as its own does."""

    @property
    def is_free(self) -> bool:
        """Whether nothing lives there."""
        return self.resource_class is ResourceClass.FREE

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Block:
    """One memory object that is divided."""

    id: str
    size: int
    regions: tuple[Region, ...]
    """By ascending offset. What shares memory with one of them is among its `aliases`."""
    map_count: int = 0
    """How often it is mapped now."""

    @property
    def allocations(self) -> Iterator[Region]:
        """The regions that are in use."""
        return (region for region in self.regions if not region.is_free)

    @property
    def allocated(self) -> int:
        """Bytes in use; those that several regions share count once."""
        # Written for dumps of millions of regions: no calls inside.
        total = end = 0
        for region in self.regions:
            if region.resource_class is not ResourceClass.FREE:
                start = region.offset
                stop = start + region.size
                if stop > end:
                    total += stop - (start if start > end else end)
                    end = stop
        return total

    @property
    def fragmentation(self) -> float:
        """1 - largest unused range / all unused bytes: 0 while what is unused is one piece, close
        to 1 when it is scattered. 0 for a full block."""
        free = ResourceClass.FREE
        unused = [region.size for region in self.regions if region.resource_class is free]
        # A dump may have unused ranges of no bytes.
        return 1 - max(unused) / sum(unused) if any(unused) else 0.0


@dataclass(frozen=True, slots=True)
class PoolDump:
    """The blocks of a memory type, or of a custom pool."""

    type_name: str
    """The memory type: `Type 3`, or a heap type of Direct3D 12 such as `UPLOAD`."""
    name: str | None
    """Of a custom pool: number and name, `0 - textures`. None for the pool of the type itself."""
    preferred_block_size: int
    flags: tuple[str, ...]
    blocks: tuple[Block, ...]
    dedicated: tuple[Region, ...]
    """Allocations with a memory object of their own."""

    @property
    def title(self) -> str:
        """For people: `Type 3` or `Type 3, pool 0 - textures`."""
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
    """None where the dump does not say."""
    budget: int | None
    usage: int | None
    figures: Figures
    memory_types: tuple[MemoryType, ...]

    @property
    def known_budget(self) -> int | None:
        """`budget`; None if it is as large as no memory is: then there is none."""
        return known_size(self.budget)

    @property
    def known_usage(self) -> int | None:
        """`usage`; None if it is as large as no memory is: then its writer did not know it."""
        return known_size(self.usage)


@dataclass(frozen=True)
class Dump:
    """What an allocator held at one moment: from `load_dump` or `Allocator.snapshot`."""

    api: str
    """`Vulkan` or `Direct3D 12`."""
    device: str
    """Name of the GPU; empty if the dump does not say."""
    general: dict[str, str | int | bool]
    """All that the dump says of the device and its limits, under the names it uses."""
    total: Figures
    heaps: tuple[Heap, ...]
    pools: tuple[PoolDump, ...]
    """The default pools first. Empty if the dump is not a detailed one."""
    detailed: bool
    """Whether single blocks and allocations are there."""
    source: str = field(default="", compare=False)
    """Where it was read from; empty for a text and for a live allocator."""

    def allocations(self) -> Iterator[tuple[PoolDump, Block | None, Region]]:
        """Every allocation with its pool and its block; the block of a dedicated one is None."""
        for pool in self.pools:
            for block in pool.blocks:
                for region in block.regions:
                    if not region.is_free:
                        yield pool, block, region
            for region in pool.dedicated:
                yield pool, None, region

    def _repr_html_(self) -> str:
        """For notebooks."""
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

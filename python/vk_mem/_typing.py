"""For type checkers: keyword arguments that many calls share, and what counts as a buffer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, Required, TypedDict

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from vk_mem._vk_mem import AllocationCreateInfo, Pool

Flags = int | str | Iterable[int | str]
"""Bits of flags: of a class of `vk_mem.flags` or of any binding, or their names, as
`"VERTEX_BUFFER|TRANSFER_DST"`, or a list of either."""

Choice = int | str
"""One value of an enumeration, or its name."""


class SupportsArrayInterface(Protocol):
    """A NumPy array, whose stubs name its buffer protocol from Python 3.12 on only."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


class AllocationKeywords(TypedDict, total=False):
    """How to allocate: what a `VmaAllocationCreateInfo` holds."""

    usage: Choice
    """`MemoryUsage`, AUTO by default."""
    flags: Flags
    """`AllocationCreateFlags`."""
    required_flags: Flags
    """`MemoryPropertyFlags` that a memory type must have."""
    preferred_flags: Flags
    """`MemoryPropertyFlags` that a memory type should have."""
    not_preferred_flags: Flags
    """`MemoryPropertyFlags` that a memory type should not have."""
    memory_type_bits: int
    """Bit i: memory type i may be used. 0 allows all."""
    min_alignment: int
    """In bytes, a power of two."""
    name: str | None
    """For people and dumps."""
    user_data: Any
    """Any object that the caller wants to find again."""
    pool: Pool | None
    """Where to allocate from, instead of the default pools."""
    priority: float | None
    """From 0 to 1 (`VK_EXT_memory_priority`); of dedicated memory."""
    export_handle_types: Flags | None
    """`ExternalMemoryHandleType` that the memory can be exported as."""
    allocation_info: AllocationCreateInfo | None
    """A set of these to start from; those given beside it win."""


class MemoryImportKeywords(AllocationKeywords, total=False):
    """How to import memory alone."""

    handle_type: Choice | None
    """`ExternalMemoryHandleType`; by default the opaque or plain one of its kind."""
    memory_type_index: int | None
    """The memory type that it was exported from. Opaque handles do not tell."""


class ImportKeywords(AllocationKeywords, total=False):
    """What memory of others a buffer or an image is put on."""

    import_fd: int | None
    """An open file descriptor; consumed on success."""
    import_win32_handle: int | None
    """A Win32 handle; it stays the caller's."""
    import_host_pointer: Buffer | SupportsArrayInterface | int | None
    """A writable buffer of this process, which is held, or an address."""
    import_handle_type: Choice | None
    """`ExternalMemoryHandleType`; by default the opaque or plain one of its kind."""
    import_size: int | None
    """Bytes of the whole `VkDeviceMemory`; what the resource needs by default."""
    import_offset: int | None
    """Where the resource starts in it, in bytes; 0 by default."""
    import_memory_type_index: int | None
    """The memory type that it was exported from. Opaque handles do not tell."""


class BufferDetails(TypedDict, total=False):
    """What every call that creates buffers takes of a `VkBufferCreateInfo`."""

    create_flags: Flags
    """`BufferCreateFlags`."""
    sharing_mode: Choice
    """`SharingMode`; CONCURRENT where several queue families are named."""
    queue_family_indices: Iterable[int]
    """The families that share it."""


class ImageDetails(TypedDict, total=False):
    """What every call that creates images takes of a `VkImageCreateInfo`."""

    create_flags: Flags
    """`ImageCreateFlags`."""
    image_type: Choice | None
    """`ImageType`; from the number of sides in `extent` by default."""
    mip_levels: int
    """1 by default."""
    array_layers: int
    """1 by default."""
    samples: Choice
    """`SampleCount`; 1 by default."""
    tiling: Choice
    """`ImageTiling`; OPTIMAL by default."""
    initial_layout: Choice
    """`ImageLayout`; UNDEFINED by default."""
    sharing_mode: Choice
    """`SharingMode`; CONCURRENT where several queue families are named."""
    queue_family_indices: Iterable[int]
    """The families that share it."""


class BufferInfoKeywords(AllocationKeywords, BufferDetails, total=False):
    """What else a buffer can be: `VkBufferCreateInfo`."""

    info: object
    """A `VkBufferCreateInfo` of any binding or its address, instead of the positional arguments."""


class BufferKeywords(BufferInfoKeywords, ImportKeywords, total=False):
    """All of `create_buffer`."""


class ImageInfoKeywords(AllocationKeywords, ImageDetails, total=False):
    """What else an image can be: `VkImageCreateInfo`."""

    info: object
    """A `VkImageCreateInfo` of any binding or its address, instead of the positional arguments."""


class ImageKeywords(ImageInfoKeywords, ImportKeywords, total=False):
    """All of `create_image`."""


class StructInfoKeywords(AllocationKeywords, total=False):
    """How to allocate what a struct describes."""

    info: Required[object]
    """A `VkBufferCreateInfo` or `VkImageCreateInfo` of any binding or its address."""


class StructKeywords(StructInfoKeywords, ImportKeywords, total=False):
    """What stands beside a struct in `create_buffer` and `create_image`."""


class ManyKeywords(AllocationKeywords, total=False):
    """How to allocate many at once; all keywords apply to all."""

    names: Iterable[str | None] | None
    """A name for each, instead of `name`."""


class ManyStructKeywords(ManyKeywords, total=False):
    """How to allocate many that structs describe."""

    infos: Required[Iterable[object]]
    """A `VkBufferCreateInfo` of any binding or its address for each."""


class ManyBufferKeywords(ManyKeywords, BufferDetails, total=False):
    """What else many buffers can be."""


class ManyImageKeywords(ManyKeywords, ImageDetails, total=False):
    """What else many images can be."""


class AliasKeywords(TypedDict, total=False):
    """What an alias has of its own; it is not allocated."""

    local_offset: int
    """Bytes from the start of the memory that it shares."""
    name: str | None
    """For people and dumps."""
    user_data: Any
    """Any object that the caller wants to find again."""


class AliasStructKeywords(AliasKeywords, total=False):
    """What an alias that a struct describes has of its own."""

    info: Required[object]
    """A `VkBufferCreateInfo` or `VkImageCreateInfo` of any binding or its address."""


class AliasBufferKeywords(AliasKeywords, BufferDetails, total=False):
    """What else an aliasing buffer can be: `VkBufferCreateInfo`."""

    info: object
    """A `VkBufferCreateInfo` of any binding or its address, instead of the positional arguments."""


class AliasImageKeywords(AliasKeywords, ImageDetails, total=False):
    """What else an aliasing image can be: `VkImageCreateInfo`."""

    info: object
    """A `VkImageCreateInfo` of any binding or its address, instead of the positional arguments."""


class ImageMemoryKeywords(AllocationKeywords, total=False):
    """What cannot be asked of a `VkImage`."""

    tiling: Choice | None
    """The `ImageTiling` it was created with."""
    plane: int | Iterable[int] | None
    """Of a disjoint image: the plane, or the planes, counted from 0."""


class PoolKeywords(TypedDict, total=False):
    """What a pool is like: `VmaPoolCreateInfo`."""

    memory_type_index: int
    """Index into the device's memory types."""
    like: object
    """An example instead: a resource, or what a creating call takes and `AllocationCreateInfo`."""
    block_size: int | None
    """Bytes of each block; without it as in the default pools."""
    min_block_count: int
    """Taken at once and kept."""
    max_block_count: int
    """0: no limit."""
    algorithm: str
    """One of "tlsf", "linear" and "buddy"."""
    ignore_buffer_image_granularity: bool
    """All resources are of one kind."""
    priority: float | None
    """From 0 to 1 (`VK_EXT_memory_priority`); ignored without that extension."""
    min_alignment: int
    """In bytes, a power of two."""
    memory_allocate_next: object
    """Address or struct of a `pNext` chain for each `vkAllocateMemory`."""
    export_handle_types: Flags | None
    """`ExternalMemoryHandleType` that its blocks can be exported as."""
    fallback: bool
    """When it is full, allocate from the default pools: of its own memory type first."""
    name: str | None
    """For people and dumps."""

"""Types for type checkers: keyword arguments that many calls share, and the buffer protocol."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, Protocol, Required, TypedDict

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from vk_mem._vk_mem import AllocationCreateInfo, Pool
    from vk_mem.debugging.options import Debug

Flags = int | str | Iterable[int | str]
"""Flag bits: an integer (a class of `vk_mem.flags`, or any binding's), names such as
`"VERTEX_BUFFER|TRANSFER_DST"`, or a list of integers and names."""

Choice = int | str
"""One value of an enumeration, as an integer or a name."""


class SupportsArrayInterface(Protocol):
    """A NumPy array. NumPy's stubs declare the buffer protocol only from Python 3.12 on."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


class SupportsArray(Protocol):
    """Anything that NumPy makes an array of."""

    def __array__(self) -> Any: ...


class SupportsDLPack(Protocol):
    """An array of any library, in memory of the host."""

    def __dlpack__(self) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, Any]: ...


class AllocationKeywords(TypedDict, total=False):
    """How to allocate: the fields of `VmaAllocationCreateInfo`."""

    usage: Choice
    """`MemoryUsage`; AUTO by default."""
    flags: Flags
    """`AllocationCreateFlags`."""
    required_flags: Flags
    """`MemoryPropertyFlags` that the memory type must have."""
    preferred_flags: Flags
    """`MemoryPropertyFlags` that the memory type should have."""
    not_preferred_flags: Flags
    """`MemoryPropertyFlags` that the memory type should not have."""
    memory_type_bits: int
    """Bit i set: memory type i may be used. 0 allows every type."""
    min_alignment: int
    """Alignment in bytes, a power of two."""
    name: str | None
    """A name for errors, tables and dumps."""
    user_data: Any
    """Any object of the caller's; the allocation keeps a reference to it."""
    pool: Pool | None
    """The pool to allocate from, instead of the default pools."""
    movable: bool | Literal["with_address"] | None
    """Whether `Allocator.defragment` may move it; by default as the pool says."""
    evict: int | Literal["never", "idle", "lower_priority"] | None
    """What CAN_MAKE_OTHER_LOST takes away: what is "idle" by default."""
    priority: float | None
    """Priority from 0 to 1: of dedicated memory (`VK_EXT_memory_priority`), and among what may be
    lost."""
    export_handle_types: Flags | None
    """`ExternalMemoryHandleType` bits that the memory can be exported as."""
    memory_allocate_next: object
    """First struct of a `pNext` chain for a dedicated `vkAllocateMemory`, or its address."""
    allocation_info: AllocationCreateInfo | None
    """Defaults for these keywords; a keyword that is given as well takes precedence."""


class MemoryImportKeywords(AllocationKeywords, total=False):
    """How to import memory without a resource."""

    handle_type: Choice | None
    """`ExternalMemoryHandleType`; by default the opaque or plain type of that handle."""
    memory_type_index: int | None
    """The memory type it was exported from; Vulkan cannot derive it from an opaque handle."""


class ImportKeywords(AllocationKeywords, total=False):
    """Memory to import and to bind the new buffer or image to."""

    import_fd: int | None
    """An open file descriptor. A successful import takes ownership of it."""
    import_win32_handle: int | None
    """A Win32 handle. The caller keeps ownership."""
    import_host_pointer: Buffer | SupportsArrayInterface | int | None
    """A writable object with the buffer protocol, which is kept alive, or an address."""
    import_handle_type: Choice | None
    """`ExternalMemoryHandleType`; by default the opaque or plain type of that handle."""
    import_size: int | None
    """Size of the whole `VkDeviceMemory` in bytes; by default what the resource needs."""
    import_offset: int | None
    """Offset of the resource in that memory, in bytes; 0 by default."""
    import_memory_type_index: int | None
    """The memory type it was exported from; Vulkan cannot derive it from an opaque handle."""


class BufferDetails(TypedDict, total=False):
    """Fields of `VkBufferCreateInfo` that every call that creates buffers takes."""

    create_flags: Flags
    """`BufferCreateFlags`."""
    sharing_mode: Choice
    """`SharingMode`; CONCURRENT by default if several queue families are given."""
    queue_family_indices: Iterable[int]
    """The queue families that share the buffer."""


class ImageDetails(TypedDict, total=False):
    """Fields of `VkImageCreateInfo` that every call that creates images takes."""

    create_flags: Flags
    """`ImageCreateFlags`."""
    image_type: Choice | None
    """`ImageType`; by default as many dimensions as `extent` has numbers."""
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
    """`SharingMode`; CONCURRENT by default if several queue families are given."""
    queue_family_indices: Iterable[int]
    """The queue families that share the image."""


class BufferInfoKeywords(AllocationKeywords, BufferDetails, total=False):
    """Keywords of a `VkBufferCreateInfo` and its allocation."""

    info: object
    """A `VkBufferCreateInfo` of any binding or its address, instead of the positional arguments."""


class BufferKeywords(BufferInfoKeywords, ImportKeywords, total=False):
    """All keywords of `create_buffer`."""

    data: ArrayLike | None
    """An array that the new buffer is filled from; TRANSFER_DST is added to its usage."""


class FilledBufferKeywords(BufferInfoKeywords, ImportKeywords, total=False):
    """Keywords of `create_buffer` with `data`, which says how large the buffer is."""

    data: Required[ArrayLike]
    """An array that the new buffer is filled from; TRANSFER_DST is added to its usage."""


class ImageInfoKeywords(AllocationKeywords, ImageDetails, total=False):
    """Keywords of a `VkImageCreateInfo` and its allocation."""

    info: object
    """A `VkImageCreateInfo` of any binding or its address, instead of the positional arguments."""


class ImageKeywords(ImageInfoKeywords, ImportKeywords, total=False):
    """All keywords of `create_image`."""

    data: ArrayLike | None
    """An array that the first mip level is filled from; TRANSFER_DST is added to the usage."""
    layout: Choice | None
    """The `ImageLayout` that the image is left in, with `data`."""
    generate_mipmaps: bool
    """Whether the other mip levels are made of the `data`: all down to one texel by default."""


class StructInfoKeywords(AllocationKeywords, total=False):
    """A Vulkan create-info struct, and how to allocate."""

    info: Required[object]
    """A `VkBufferCreateInfo` or `VkImageCreateInfo` of any binding or its address."""


class StructKeywords(StructInfoKeywords, ImportKeywords, total=False):
    """Keywords of `create_buffer` and `create_image` with a create-info struct."""


class ManyKeywords(AllocationKeywords, total=False):
    """How to allocate many at once; each keyword applies to all of them."""

    names: Iterable[str | None] | None
    """One name for each, instead of `name`."""


class ManyStructKeywords(ManyKeywords, total=False):
    """One Vulkan create-info struct for each buffer, and how to allocate."""

    infos: Required[Iterable[object]]
    """For each buffer a `VkBufferCreateInfo` of any binding, or its address."""


class ManyBufferKeywords(ManyKeywords, BufferDetails, total=False):
    """All keywords of `create_buffers`."""


class ManyImageKeywords(ManyKeywords, ImageDetails, total=False):
    """All keywords of `create_images`."""


class AliasKeywords(TypedDict, total=False):
    """Keywords of an aliasing resource, which shares memory and allocates none."""

    local_offset: int
    """Offset in bytes from the start of the shared memory."""
    name: str | None
    """A name for errors, tables and dumps."""
    user_data: Any
    """Any object of the caller's; the alias keeps a reference to it."""


class AliasStructKeywords(AliasKeywords, total=False):
    """Keywords of an aliasing resource with a create-info struct."""

    info: Required[object]
    """A `VkBufferCreateInfo` or `VkImageCreateInfo` of any binding or its address."""


class AliasBufferKeywords(AliasKeywords, BufferDetails, total=False):
    """Keywords of an aliasing buffer: those of a `VkBufferCreateInfo`."""

    info: object
    """A `VkBufferCreateInfo` of any binding or its address, instead of the positional arguments."""


class AliasImageKeywords(AliasKeywords, ImageDetails, total=False):
    """Keywords of an aliasing image: those of a `VkImageCreateInfo`."""

    info: object
    """A `VkImageCreateInfo` of any binding or its address, instead of the positional arguments."""


class ImageMemoryKeywords(AllocationKeywords, total=False):
    """Keywords of memory for an existing `VkImage`, whose create info Vulkan does not return."""

    tiling: Choice | None
    """The `ImageTiling` it was created with."""
    plane: int | Iterable[int] | None
    """For a disjoint image: the index, or indices, of the planes, from 0."""


class PoolKeywords(TypedDict, total=False):
    """How a pool allocates: the fields of `VmaPoolCreateInfo`."""

    memory_type_index: int
    """Index into the device's memory types."""
    like: object
    """Instead of an index: an example resource, or the arguments that would create one."""
    block_size: int | None
    """Size of each block in bytes; by default chosen as for the default pools."""
    min_block_count: int
    """Number of blocks that are allocated with the pool and kept until it closes."""
    max_block_count: int
    """Maximum number of blocks; 0 sets no limit."""
    algorithm: str
    """How blocks are divided: "tlsf", "linear" or "buddy"."""
    ignore_buffer_image_granularity: bool
    """Ignores `bufferImageGranularity`; only for pools with buffers alone or images alone."""
    priority: float | None
    """Priority from 0 to 1 (`VK_EXT_memory_priority`); ignored without that extension."""
    min_alignment: int
    """Least alignment in bytes, a power of two."""
    memory_allocate_next: object
    """A `pNext` chain for each `vkAllocateMemory`: its first struct, or the address of it."""
    export_handle_types: Flags | None
    """`ExternalMemoryHandleType` bits that its blocks can be exported as."""
    fallback: bool
    """Allocates from the default pools when this pool is full, first from its memory type."""
    movable: bool | Literal["with_address"]
    """Whether `Allocator.defragment` may move what is created in it."""
    frames_in_use: int | None
    """Frames after which what was not used in it may be lost; by default those of the allocator."""
    debug: Debug | None
    """What is done in it to find faults of the program, instead of what its allocator does."""
    name: str | None
    """A name for errors, tables and dumps."""


if TYPE_CHECKING:
    ArrayLike = Buffer | SupportsArrayInterface | SupportsArray | SupportsDLPack

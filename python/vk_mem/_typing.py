"""For type checkers: keyword arguments that many calls share, and what counts as a buffer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

if TYPE_CHECKING:
    from vk_mem._vk_mem import AllocationCreateInfo


class SupportsArrayInterface(Protocol):
    """A NumPy array, whose stubs name its buffer protocol from Python 3.12 on only."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


class AllocationKeywords(TypedDict, total=False):
    """How to allocate: what a `VmaAllocationCreateInfo` holds."""

    usage: int
    """`MemoryUsage`, AUTO by default."""
    flags: int
    """`AllocationCreateFlags`."""
    required_flags: int
    """`MemoryPropertyFlags` that a memory type must have."""
    preferred_flags: int
    """`MemoryPropertyFlags` that a memory type should have."""
    not_preferred_flags: int
    """`MemoryPropertyFlags` that a memory type should not have."""
    memory_type_bits: int
    """Bit i: memory type i may be used. 0 allows all."""
    min_alignment: int
    """In bytes, a power of two."""
    name: str | None
    """For people and dumps."""
    user_data: Any
    """Any object that the caller wants to find again."""
    allocation_info: AllocationCreateInfo | None
    """A set of these to start from; those given beside it win."""


class BufferKeywords(AllocationKeywords, total=False):
    """What else a buffer can be: `VkBufferCreateInfo`."""

    info: object
    """A `VkBufferCreateInfo` of any binding or its address, instead of the positional arguments."""
    create_flags: int
    """`BufferCreateFlags`."""
    sharing_mode: int
    """`SharingMode`; CONCURRENT where several queue families are named."""
    queue_family_indices: Iterable[int]
    """The families that share it."""


class ImageKeywords(AllocationKeywords, total=False):
    """What else an image can be: `VkImageCreateInfo`."""

    info: object
    """A `VkImageCreateInfo` of any binding or its address, instead of the positional arguments."""
    create_flags: int
    """`ImageCreateFlags`."""
    image_type: int | None
    """`ImageType`; from the number of sides in `extent` by default."""
    mip_levels: int
    """1 by default."""
    array_layers: int
    """1 by default."""
    samples: int
    """`SampleCount`; 1 by default."""
    tiling: int
    """`ImageTiling`; OPTIMAL by default."""
    initial_layout: int
    """`ImageLayout`; UNDEFINED by default."""
    sharing_mode: int
    """`SharingMode`; CONCURRENT where several queue families are named."""
    queue_family_indices: Iterable[int]
    """The families that share it."""


class ImageMemoryKeywords(AllocationKeywords, total=False):
    """What cannot be asked of a `VkImage`."""

    tiling: int | None
    """The `ImageTiling` it was created with."""

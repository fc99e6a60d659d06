"""Events of virtual blocks, and of sets of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vk_mem.trace.event import Event
from vk_mem.trace.values import Failure

__all__ = [
    "AddBlock",
    "ClearSpace",
    "CreateSpace",
    "DefragmentSpace",
    "DestroySpace",
    "GrowSpace",
    "MergeSpace",
    "RemoveBlock",
    "SetVirtualData",
    "VirtualAllocate",
    "VirtualAllocateFailed",
    "VirtualFree",
    "VirtualMove",
]


@dataclass(frozen=True, slots=True)
class VirtualAllocate(Event):
    """A range of a virtual block was allocated."""

    space: int
    """Number of the virtual block or set."""
    allocation: int
    """Number of the virtual allocation."""
    size: int
    """Size in units of the block."""
    alignment: int
    """The alignment that was asked for, in units."""
    upper: bool
    """Whether it was allocated from the upper end."""
    strategy: str
    """The search strategy."""
    block: int | None
    """The block, if the space is a set."""
    offset: int
    """Offset in the block, in units."""

    kind: ClassVar[str] = "virtual_allocate"


@dataclass(frozen=True, slots=True)
class VirtualFree(Event):
    """A range of a virtual block was freed."""

    space: int
    """Number of the virtual block or set."""
    allocation: int
    """Number of the virtual allocation."""

    kind: ClassVar[str] = "virtual_free"


@dataclass(frozen=True, slots=True)
class CreateSpace(Event):
    """A virtual block, or a set of them, was created."""

    space: int
    """Number of the virtual block or set."""
    size: int | None
    """Size of the block in units; None for a set."""
    algorithm: str
    """The algorithm that divides it."""
    alignment: int
    """Minimum alignment of every offset in a set, in units."""
    margin: int | None
    """Units before and behind each allocation that belong to none; None: there are none."""

    kind: ClassVar[str] = "create_space"


@dataclass(frozen=True, slots=True)
class DestroySpace(Event):
    """A virtual block, or a set of them, was destroyed."""

    space: int
    """Number of the virtual block or set."""

    kind: ClassVar[str] = "destroy_space"


@dataclass(frozen=True, slots=True)
class ClearSpace(Event):
    """All of a virtual block was freed."""

    space: int
    """Number of the virtual block."""

    kind: ClassVar[str] = "clear_space"


@dataclass(frozen=True, slots=True)
class GrowSpace(Event):
    """A virtual block became larger."""

    space: int
    """Number of the virtual block."""
    size: int
    """Its new size in units."""

    kind: ClassVar[str] = "grow_space"


@dataclass(frozen=True, slots=True)
class AddBlock(Event):
    """A block was added to a set."""

    space: int
    """Number of the set."""
    block: int
    """Number of the block in the set."""
    size: int
    """Its size in units."""

    kind: ClassVar[str] = "add_block"


@dataclass(frozen=True, slots=True)
class RemoveBlock(Event):
    """A block of a set was removed, with all its allocations."""

    space: int
    """Number of the set."""
    block: int
    """Number of the block in the set."""

    kind: ClassVar[str] = "remove_block"


@dataclass(frozen=True, slots=True)
class VirtualAllocateFailed(Event):
    """A request to a virtual block failed."""

    space: int
    """Number of the virtual block or set."""
    size: int
    """Size in units."""
    alignment: int
    """The alignment that was asked for, in units."""
    upper: bool
    """Whether it was to be allocated from the upper end."""
    strategy: str
    """The search strategy."""
    failure: Failure | None
    """The reason; None: a set has no room."""

    kind: ClassVar[str] = "virtual_allocate_failed"


@dataclass(frozen=True, slots=True)
class VirtualMove(Event):
    """An allocation of a virtual block moved, in a defragmentation."""

    space: int
    """Number of the virtual block."""
    allocation: int
    """Number of the virtual allocation."""
    offset: int
    """New offset in units."""

    kind: ClassVar[str] = "virtual_move"


@dataclass(frozen=True, slots=True)
class DefragmentSpace(Event):
    """A virtual block was defragmented; its moves follow as a group."""

    space: int
    """Number of the virtual block."""
    algorithm: str
    """How far it went."""

    kind: ClassVar[str] = "defragment_space"


@dataclass(frozen=True, slots=True)
class SetVirtualData(Event):
    """Custom data of a virtual allocation were set: `user_data`."""

    space: int
    """Number of the virtual block."""
    allocation: int
    """Number of the virtual allocation."""
    data: int | str | None
    """The data, as dumps show them."""

    kind: ClassVar[str] = "set_virtual_data"


@dataclass(frozen=True, slots=True)
class MergeSpace(Event):
    """Freed ranges of a virtual block were merged to count them, which decides where the next ones
    go."""

    space: int
    """Number of the virtual block."""

    kind: ClassVar[str] = "merge_space"

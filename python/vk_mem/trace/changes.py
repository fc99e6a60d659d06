"""Events of defragmentations, of the driver, of budgets and quarantine, and marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from vk_mem.trace.event import Event
from vk_mem.trace.values import Failure, Object, Placement

__all__ = [
    "AllocateMemory",
    "BeginDefragmentation",
    "BeginPass",
    "Budget",
    "EndDefragmentation",
    "EndMove",
    "EndPass",
    "EndQuarantine",
    "Failed",
    "FreeMemory",
    "KeepSource",
    "LimitPasses",
    "MakeEvictable",
    "Mark",
    "MergeFreed",
    "Prefetch",
    "ProposeMove",
    "QueryBudget",
    "RefuseLosses",
    "RefuseMoves",
    "Trim",
]


@dataclass(frozen=True, slots=True)
class BeginDefragmentation(Event):
    """A run of defragmentation began."""

    run: int
    """Number of the run."""
    algorithm: str | None
    """How far it goes, if the trace says it."""
    pools: tuple[int, ...]
    """The pools; with no allocations either: all default pools."""
    allocations: tuple[int, ...]
    """The allocations that may move, where the caller lists them."""
    max_bytes: int
    """The most bytes that a pass moves; 0 for no limit."""
    max_moves: int
    """The most allocations that a pass moves; 0 for no limit."""
    max_regions: int
    """The most regions that a pass looks at; 0 for no limit."""
    slides: bool
    """Whether allocations may move by less than their size."""
    limits: dict[str, Any] | None
    """The options of VMA 2.3."""

    kind: ClassVar[str] = "begin_defragmentation"


@dataclass(frozen=True, slots=True)
class BeginPass(Event):
    """A pass of a defragmentation begins; the moves that it proposes follow."""

    run: int
    """Number of the run."""
    moves: int
    """Number of the moves."""

    kind: ClassVar[str] = "begin_pass"


@dataclass(frozen=True, slots=True)
class ProposeMove(Event):
    """A move was proposed, and its destination reserved."""

    run: int
    """Number of the run."""
    allocation: int
    """Number of the allocation."""
    move: str
    """`apart`, or `slide` if source and destination overlap."""
    placed: Placement
    """The destination."""

    kind: ClassVar[str] = "propose_move"


@dataclass(frozen=True, slots=True)
class EndMove(Event):
    """A move ended."""

    run: int | None
    """Number of the run; None for a move outside of any."""
    allocation: int
    """Number of the allocation."""
    result: str
    """How it ended."""
    placed: Placement | None
    """Where the allocation is now, if it moved."""

    kind: ClassVar[str] = "end_move"


@dataclass(frozen=True, slots=True)
class EndPass(Event):
    """A pass ended."""

    run: int
    """Number of the run."""
    progressed: bool
    """Whether anything was moved or destroyed."""

    kind: ClassVar[str] = "end_pass"


@dataclass(frozen=True, slots=True)
class EndDefragmentation(Event):
    """A run of defragmentation ended."""

    run: int
    """Number of the run."""
    bytes_moved: int
    """Bytes of the allocations that were moved."""
    bytes_freed: int
    """Bytes of the memory objects that were given back to the driver."""
    allocations_moved: int
    """Number of allocations that were moved."""
    blocks_freed: int
    """Number of memory objects that were given back."""

    kind: ClassVar[str] = "end_defragmentation"


@dataclass(frozen=True, slots=True)
class AllocateMemory(Event):
    """The driver was asked for a memory object: `vkAllocateMemory`."""

    memory: int | None
    """Number of the memory object, if there is one now."""
    memory_type: int | None
    """Index into the device's memory types."""
    size: int
    """Size in bytes."""
    priority: float | None
    """Priority from 0 to 1."""
    export_handle_types: int
    """`VkExternalMemoryHandleTypeFlags` that it can be exported as."""
    names_resource: bool
    """Whether it is dedicated to one resource."""
    is_imported: bool
    """Whether it was imported."""
    result: int
    """The `VkResult`."""

    kind: ClassVar[str] = "allocate_memory"


@dataclass(frozen=True, slots=True)
class FreeMemory(Event):
    """A memory object was given back: `vkFreeMemory`."""

    memory: int
    """Number of the memory object."""

    kind: ClassVar[str] = "free_memory"


@dataclass(frozen=True, slots=True)
class Budget(Event):
    """State of a heap and its budget."""

    heap: int
    """Index of the heap."""
    block_count: int
    """Number of memory objects that the allocator holds."""
    block_bytes: int
    """Their size in bytes."""
    allocation_count: int
    """Number of live allocations."""
    allocation_bytes: int
    """Their requested size in bytes."""
    usage: int
    """Bytes in use of the heap."""
    budget: int
    """Bytes that may be in use."""

    kind: ClassVar[str] = "budget"


@dataclass(frozen=True, slots=True)
class Trim(Event):
    """Empty blocks were given back to the driver."""

    bytes: int
    """Their size in bytes."""

    kind: ClassVar[str] = "trim"


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """Any other call failed."""

    function: str
    """Name of the function."""
    object: Object | None
    """What it was called for."""
    failure: Failure
    """The reason."""

    kind: ClassVar[str] = "failed"


@dataclass(frozen=True, slots=True)
class Mark(Event):
    """A mark of the program."""

    text: str
    """Its text."""

    kind: ClassVar[str] = "mark"


@dataclass(frozen=True, slots=True)
class QueryBudget(Event):
    """The driver was asked for usage and budgets of its heaps."""

    trims: bool
    """Whether empty blocks of heaps above their budget were given back."""

    kind: ClassVar[str] = "query_budget"


@dataclass(frozen=True, slots=True)
class EndQuarantine(Event):
    """Freed memory in quarantine was given out again."""

    all: bool
    """Whether all of it was, or what was overdue."""

    kind: ClassVar[str] = "end_quarantine"


@dataclass(frozen=True, slots=True)
class MergeFreed(Event):
    """Freed regions of a pool were merged to count them, which decides where the next ones go."""

    pool: int | None
    """Number of the pool."""
    memory_type: int | None
    """Memory type of the default pool, if it is that of one."""

    kind: ClassVar[str] = "merge_freed"


@dataclass(frozen=True, slots=True)
class Prefetch(Event):
    """A thread looked whether a pool needs its next block, and allocated it if so."""

    pool: int | None
    """Number of the pool."""
    memory_type: int | None
    """Memory type of the default pool, if it is that of one."""

    kind: ClassVar[str] = "prefetch"


@dataclass(frozen=True, slots=True)
class RefuseMoves(Event):
    """The program refused to let allocations move in the pass that follows."""

    run: int
    """Number of the run."""
    allocations: tuple[int, ...]
    """Numbers of the allocations."""

    kind: ClassVar[str] = "refuse_moves"


@dataclass(frozen=True, slots=True)
class LimitPasses(Event):
    """The limits of the passes to come changed."""

    run: int
    """Number of the run."""
    max_bytes: int
    """The most bytes that a pass moves; 0 for no limit."""
    max_moves: int
    """The most allocations that a pass moves; 0 for no limit."""

    kind: ClassVar[str] = "limit_passes"


@dataclass(frozen=True, slots=True)
class KeepSource(Event):
    """An allocation leaves its old place allocated, under a number of its own, until that is
    freed: its move ends next, or it has moved to make room in the call that follows."""

    allocation: int
    """Number of the old place."""
    of: int
    """Number of the allocation that moves."""

    kind: ClassVar[str] = "keep_source"


@dataclass(frozen=True, slots=True)
class RefuseLosses(Event):
    """The program refused to lose allocations in the call that follows, as they are in use."""

    allocations: tuple[int, ...]
    """Numbers of the allocations."""

    kind: ClassVar[str] = "refuse_losses"


@dataclass(frozen=True, slots=True)
class AnswerMoves(Event):
    """The program said which allocations of a block may move to make room in the call that
    follows."""

    allocations: tuple[int, ...]
    """Numbers of those that may."""

    kind: ClassVar[str] = "answer_moves"


@dataclass(frozen=True, slots=True)
class MakeRoom(Event):
    """The program was asked to make room in the call that follows: by losses, and by moves without
    a run."""

    is_made: bool
    """Whether it did."""
    may_go_on: bool
    """Whether another plan may be better."""
    allocations: tuple[int, ...]
    """Numbers of the allocations that were in the way."""

    kind: ClassVar[str] = "make_room"


@dataclass(frozen=True, slots=True)
class MakeEvictable(Event):
    """An allocation can be lost from now on, or cannot any more."""

    allocation: int
    """Number of the allocation."""
    priority: float | None
    """Its priority from 0 to 1; None: it cannot be lost any more."""

    kind: ClassVar[str] = "make_evictable"

//! [`Told`]: what an allocator tells whoever records it.

use super::subject::Subject;
use crate::device::{DeviceError, MemoryAllocateInfo, MemoryHandle};
use crate::error::{Error, FailedItem};
use crate::handle::{Allocation, AllocationId, PoolId, PoolKey};
use crate::request::{
    AllocationRequest, DefragmentationAlgorithm, HostRange, ImportRequest, MemoryRequirements,
    PoolCreateInfo, ResourceKind,
};

/// Receives what an allocator does.
pub trait Recorder: Send + Sync {
    /// Called at the end of a call, or in its middle for what it did before. `number` is the place of the event in the
    /// order in which all events of the process took effect; what is about several
    /// allocations has a number for each, and one more in front: `number` is the first of them. It may run under short locks of the engine: it takes short
    /// locks only, calls no driver, and does not call back.
    fn tell(&self, number: u64, told: &Told<'_>);
}

/// How a move ended.
#[derive(Clone, Copy, Debug)]
pub enum ToldEnd<'a> {
    /// The allocation is where it was to move; its old place is free.
    Moved(&'a Allocation),
    /// The allocation is where it was to move; its old place stays allocated until the caller frees it, by the old id.
    MovedFrom(&'a Allocation),
    /// It stays where it was, as the caller wanted it.
    Ignored,
    /// It stays where it was, as it was mapped.
    Kept,
    /// The caller gave it up.
    Destroyed,
    /// It was freed before.
    Gone,
}

/// What was named, got custom data, or was given up.
#[derive(Clone, Copy, Debug)]
pub enum ToldObject {
    /// An allocation.
    Allocation(AllocationId),
    /// The resource of a Vulkan handle that is placed in an allocation, which the engine does not know; true if it is
    /// an image.
    Alias(u64, bool),
}

/// What an allocator did. Ids that are freed are stale already.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// [`Allocator::allocate`](crate::Allocator::allocate) for a resource.
    Allocate(&'a AllocationRequest, &'a Subject, Result<&'a Allocation, &'a Error>),
    /// [`Allocator::allocate_many`](crate::Allocator::allocate_many) for resources, one for each request or none.
    AllocateMany(&'a [AllocationRequest], &'a [Subject], Result<&'a [Allocation], &'a FailedItem>),
    /// [`Allocator::import`](crate::Allocator::import)
    Import(&'a ImportRequest, &'a Subject, Result<&'a Allocation, &'a Error>),
    /// A resource was placed in the memory of an allocation.
    Alias {
        /// That allocation, or an alias of it.
        base: &'a Allocation,
        /// What the resource requires.
        requirements: &'a MemoryRequirements,
        /// Its kind.
        kind: ResourceKind,
        /// The resource.
        subject: &'a Subject,
        /// Its place.
        made: &'a Allocation,
        /// Its Vulkan handle, and whether that is an image.
        handle: (u64, bool),
    },
    /// The resource of a Vulkan handle ended, which may be an alias; true if it is an image.
    EndAlias(u64, bool),
    /// An allocation was freed.
    Free(AllocationId),
    /// Allocations were freed in one call.
    FreeMany(&'a [AllocationId]),
    /// A pool was created, or could not be.
    CreatePool(&'a PoolCreateInfo, Result<PoolId, &'a Error>),
    /// A pool was destroyed.
    DestroyPool(PoolId),
    /// An allocation or an alias got a name, or lost it.
    Name(ToldObject, Option<&'a str>),
    /// A pool got a name, or lost it.
    NamePool(PoolId, Option<&'a str>),
    /// Custom data of an allocation or an alias were set, which show themselves as this text.
    Data(ToldObject, Option<&'a str>),
    /// The owner gave an allocation or an alias up, which ends once the device has used it for the last time.
    Retire(ToldObject),
    /// Memory was mapped.
    Map(AllocationId),
    /// A map was undone.
    Unmap(AllocationId),
    /// Host writes were made visible to the device.
    Flush(&'a [HostRange]),
    /// Device writes were made visible to the host.
    Invalidate(&'a [HostRange]),
    /// A Vulkan function failed, other than for an allocation or a pool: its name, and the allocation that it was
    /// called for.
    Failed(&'static str, Option<AllocationId>, &'a Error),
    /// A frame began.
    Frame(u64),
    /// The driver was asked for usage and budgets; empty blocks of heaps above it were given back if `trims`.
    QueryBudget {
        /// Whether empty blocks of heaps above their budget were given back.
        trims: bool,
    },
    /// The driver reported other figures for a heap than before; all heaps are told when the recording begins.
    Budget {
        /// Index of the heap.
        heap: u32,
        /// Number of memory objects that the allocator holds.
        block_count: u32,
        /// The bytes of them that the figures include.
        block_bytes: u64,
        /// Bytes in use.
        usage: u64,
        /// Bytes that may be in use.
        budget: u64,
    },
    /// `vkAllocateMemory`
    AllocateMemory(&'a MemoryAllocateInfo, Result<MemoryHandle, DeviceError>),
    /// `vkFreeMemory` is about to be called.
    FreeMemory(MemoryHandle),
    /// An allocation can be lost from now on. With its priority.
    MakeEvictable(AllocationId, f32),
    /// An allocation cannot be lost any more.
    EndEvictable(AllocationId),
    /// An evictable allocation was used for the first time in a frame.
    Touch(AllocationId),
    /// Evictable allocations are about to be marked as lost.
    Lose(&'a [AllocationId]),
    /// The owner refused to lose allocations, as they are in use.
    RefuseLosses(&'a [AllocationId]),
    /// The owner ended an allocation that was lost.
    EndLost(AllocationId),
    /// All that may be lost was taken away, of a pool or of all: so many.
    MakeLost(Option<PoolId>, usize),
    /// Memory of heaps above their budget was given back: so many bytes.
    EvictOverBudget(u64),
    /// Empty blocks were given back: so many bytes.
    Trim(u64),
    /// Freed memory in quarantine was given out again: all of it, or what was overdue.
    EndQuarantine {
        /// Whether all of it was.
        all: bool,
    },
    /// Freed regions of a pool were merged to count them.
    Merge(PoolKey),
    /// A block was allocated ahead of time, or was to be.
    Prefetch(PoolKey),
    /// A run of defragmentation began.
    BeginDefragmentation {
        /// Number of the run.
        run: u32,
        /// The pool; `None`: all default pools.
        pool: Option<PoolId>,
        /// How far it goes.
        algorithm: DefragmentationAlgorithm,
        /// The most bytes that a pass moves; 0 for no limit.
        max_bytes: u64,
        /// The most allocations that a pass moves; 0 for no limit.
        max_moves: u32,
        /// The most regions that a pass looks at; 0 for no limit.
        max_regions: u32,
        /// Whether allocations may move by less than their size.
        slides: bool,
    },
    /// A pass has looked for moves, which are told next.
    BeginPass {
        /// Number of the run.
        run: u32,
        /// Its limits of bytes and of allocations; 0 for no limit.
        limits: (u64, u32),
        /// Number of the moves.
        moves: u32,
        /// The allocations that the caller refused to let move.
        refused: &'a [AllocationId],
    },
    /// A move of a pass that has just begun.
    ProposeMove {
        /// Number of the run.
        run: u32,
        /// The allocation.
        source: AllocationId,
        /// Where it is to move.
        destination: &'a Allocation,
        /// Whether that overlaps with where it is.
        slides: bool,
    },
    /// A move ended.
    EndMove {
        /// Number of the run.
        run: u32,
        /// The allocation, as it was.
        source: AllocationId,
        /// How it ended.
        end: ToldEnd<'a>,
    },
    /// An allocation was moved to make room for a request; its old place is free, or will be.
    MoveForRoom(AllocationId, &'a Allocation),
    /// That allocation is used at its old place after all, which stays until the owner frees it, by the old id.
    KeepForRoom(AllocationId, &'a Allocation),
    /// The owner said which allocations of a block may move to make room for the request of the call.
    AnswerMoves(&'a [AllocationId]),
    /// The owner was asked to make room for the request of the call as planned.
    MakeRoom {
        /// Whether it has taken the victims away; then the moves that were made were told before.
        is_made: bool,
        /// Whether another plan may be better.
        may_go_on: bool,
        /// The allocations that were in the way.
        in_the_way: &'a [AllocationId],
    },
    /// A pass ended; true if anything was moved or destroyed.
    EndPass(u32, bool),
    /// A run of defragmentation ended.
    EndDefragmentation {
        /// Number of the run.
        run: u32,
        /// Bytes of the allocations that were moved.
        bytes_moved: u64,
        /// Bytes of the memory objects that were given back to the driver.
        bytes_freed: u64,
        /// Number of allocations that were moved.
        allocations_moved: u64,
        /// Number of memory objects that were given back.
        blocks_freed: u64,
    },
    /// The allocator was closed.
    Close,
}

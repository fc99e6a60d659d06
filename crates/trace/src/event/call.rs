//! [`Call`]: every kind of event, with its parameters and results.

use vkmem_engine::{
    Algorithm, AllocatorOptions, DefragmentationAlgorithm, MoveKind, PoolCreateInfo, Strategy,
};

use super::parts::{Data, GroupKind, HostAndDeviceLimits, MoveResult, Object};
use crate::bytes::Input;
use crate::dictionary::Dictionary;
use crate::error::Damage;
use crate::field::{Field, Output};
use crate::value::{ToValue, Value};
use crate::values::{Failure, Numbers, Placed, Request};

macro_rules! calls {
    ($(
        $(#[$doc:meta])*
        $number:literal $kind:ident $text:literal {
            $($(#[$about:meta])* $field:ident: $type:ty,)*
        }
    )+) => {
        /// A call, or something that happened during one.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Call<'a> {
            $($(#[$doc])* $kind { $($(#[$about])* $field: $type,)* },)+
        }

        /// The kind of a [`Call`]. The numbers are those of files, and never change their meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $(#[doc = concat!("[`Call::", stringify!($kind), "`]")] $kind = $number,)+
        }

        impl Kind {
            /// All kinds in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// Returns the name in lower case.
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $text,)+ }
            }

            /// Returns the fields with their types, in the order of files.
            pub fn fields(self) -> &'static [(&'static str, &'static str)] {
                match self {
                    $(Self::$kind => &[$((stringify!($field), stringify!($type)),)*],)+
                }
            }

            /// Returns the kind of a number.
            #[inline]
            pub fn from_number(number: u8) -> Option<Self> {
                Some(match number { $($number => Self::$kind,)+ _ => return None })
            }
        }

        impl<'a> Call<'a> {
            /// Returns the kind.
            #[inline]
            pub fn kind(&self) -> Kind {
                match self { $(Self::$kind { .. } => Kind::$kind,)+ }
            }

            /// Appends all fields, in the order in which they are listed.
            pub(crate) fn put(&self, out: &mut Output<'_>) {
                match self {
                    $(Self::$kind { $($field,)* } => { $($field.put(out);)* })+
                }
            }

            /// Returns all fields with their names, in the order in which they are listed.
            pub fn fields(&self) -> Vec<(&'static str, Value<'_>)> {
                match self {
                    $(Self::$kind { $($field,)* } => {
                        vec![$((stringify!($field), $field.to_value()),)*]
                    })+
                }
            }

            /// Takes all fields.
            pub(crate) fn get(
                kind: Kind,
                input: &mut Input<'a>,
                dictionary: &'a Dictionary,
            ) -> Result<Self, Damage> {
                Ok(match kind {
                    $(Kind::$kind => Self::$kind {
                        $($field: Field::get(input, dictionary)?,)*
                    },)+
                })
            }
        }
    };
}

impl Kind {
    /// Returns whether events of this kind are about a virtual block or a set, and no allocator.
    pub(crate) fn is_of_space(self) -> bool {
        matches!(
            self,
            Self::VirtualAllocate
                | Self::VirtualFree
                | Self::CreateSpace
                | Self::DestroySpace
                | Self::ClearSpace
                | Self::GrowSpace
                | Self::AddBlock
                | Self::RemoveBlock
                | Self::VirtualAllocateFailed
                | Self::VirtualMove
                | Self::DefragmentSpace
                | Self::SetVirtualData
                | Self::MergeSpace
        )
    }
}

// Numbers below 64 have forms of their own (`format/compact.rs`), which cannot be extended. The others are stored with
// their length; a later version may add fields behind the last one.
calls! {
    /// Memory was allocated, alone or for a resource.
    1 Allocate "allocate" {
        /// Number of the allocation.
        allocation: u32,
        /// All that it was asked for but the size.
        request: Request,
        /// Size in bytes that the resource requires; never 0.
        size: Option<u64>,
        /// `VkBufferCreateInfo::size`, only for a buffer; never 0.
        buffer_size: Option<u64>,
        /// Where it is; `None` if the trace does not say.
        placed: Option<Placed>,
        /// The name that it was created with.
        name: Option<&'a str>,
        /// The custom data that it was created with.
        data: Data<'a>,
    }
    /// An allocation, alias or import was freed, and its resource destroyed.
    3 Free "free" {
        /// Number of the allocation.
        allocation: u32,
    }
    /// Memory was mapped: `vmaMapMemory`.
    4 Map "map" {
        /// Number of the allocation.
        allocation: u32,
    }
    /// A map was undone: `vmaUnmapMemory`.
    5 Unmap "unmap" {
        /// Number of the allocation.
        allocation: u32,
    }
    /// Host writes were made visible to the device: `vmaFlushAllocation`.
    6 Flush "flush" {
        /// Number of the allocation.
        allocation: u32,
        /// Offset in the allocation, in bytes.
        offset: u64,
        /// Size in bytes; `u64::MAX` for up to the end.
        size: u64,
    }
    /// Device writes were made visible to the host: `vmaInvalidateAllocation`.
    7 Invalidate "invalidate" {
        /// Number of the allocation.
        allocation: u32,
        /// Offset in the allocation, in bytes.
        offset: u64,
        /// Size in bytes; `u64::MAX` for up to the end.
        size: u64,
    }
    /// A frame began, the frame of the event: `vmaSetCurrentFrameIndex`.
    8 BeginFrame "begin_frame" {}
    /// A range of a virtual block was allocated.
    9 VirtualAllocate "virtual_allocate" {
        /// Number of the virtual block or set.
        space: u32,
        /// Number of the virtual allocation.
        allocation: u32,
        /// Size in units of the block.
        size: u64,
        /// The alignment that was asked for, in units.
        alignment: u64,
        /// Whether it was allocated from the upper end.
        upper: bool,
        /// The search strategy.
        strategy: Strategy,
        /// The block, if the space is a set.
        block: Option<u32>,
        /// Offset in the block, in units.
        offset: u64,
    }
    /// A range of a virtual block was freed.
    10 VirtualFree "virtual_free" {
        /// Number of the virtual block or set.
        space: u32,
        /// Number of the virtual allocation.
        allocation: u32,
    }
    /// An allocator was created; its number is that of the event.
    64 CreateAllocator "create_allocator" {
        /// Its options.
        options: Option<Box<AllocatorOptions>>,
    }
    /// An allocator was destroyed.
    65 DestroyAllocator "destroy_allocator" {}
    /// A pool was created, or could not be.
    66 CreatePool "create_pool" {
        /// Number of the pool, if it was created.
        pool: Option<u32>,
        /// Its parameters, without a `pNext` chain.
        info: PoolCreateInfo,
        /// Whether there was a `pNext` chain, which traces do not contain.
        has_next: bool,
        /// The reason, if it was not created.
        failure: Option<Box<Failure<'a>>>,
    }
    /// A pool was destroyed.
    67 DestroyPool "destroy_pool" {
        /// Number of the pool.
        pool: u32,
    }
    /// An allocation failed.
    68 AllocateFailed "allocate_failed" {
        /// All that it was asked for but the size.
        request: Request,
        /// Size in bytes that the resource requires; never 0.
        size: Option<u64>,
        /// `VkBufferCreateInfo::size`, only for a buffer; never 0.
        buffer_size: Option<u64>,
        /// The reason; `None`: it was undone, or not tried, as another of its group failed.
        failure: Option<Box<Failure<'a>>>,
    }
    /// The next events are one call: so many of the given kind, and those that failed.
    69 Group "group" {
        /// What they do.
        kind: GroupKind,
        /// Their number.
        count: u32,
    }
    /// A resource was placed in the memory of another one.
    70 Alias "alias" {
        /// Number of the alias.
        allocation: u32,
        /// Number of the allocation in whose memory it is.
        base: u32,
        /// What the resource requires, and what it is.
        request: Request,
        /// Size in bytes that the resource requires.
        size: Option<u64>,
        /// Offset in the memory of the base, in bytes.
        offset: u64,
    }
    /// External memory was imported.
    71 Import "import" {
        /// Number of the allocation.
        allocation: u32,
        /// What it was asked for; the requirements are those of the whole memory object.
        request: Request,
        /// Size of the memory object in bytes.
        whole_size: u64,
        /// Offset of the resource in the memory object, in bytes.
        offset: u64,
        /// Size of the resource in bytes.
        size: u64,
        /// `VkExternalMemoryHandleTypeFlagBits`
        handle_type: u32,
        /// The memory type that the memory was known to be of.
        memory_type_index: Option<u32>,
        /// Whether the memory type of the handle cannot be queried.
        is_opaque: bool,
        /// Where it is.
        placed: Option<Placed>,
    }
    /// An object got a name, or lost it.
    72 Name "name" {
        /// The object.
        object: Object,
        /// The name.
        name: Option<&'a str>,
    }
    /// Custom data of an allocation were set: `vmaSetAllocationUserData`.
    73 SetData "set_data" {
        /// Number of the allocation.
        allocation: u32,
        /// The data.
        data: Data<'a>,
    }
    /// Evictable allocations were used: `vmaTouchAllocation`.
    74 Touch "touch" {
        /// Numbers of the allocations.
        allocations: Numbers<'a>,
    }
    /// Allocations were lost: their memory was taken away for other use.
    75 Lose "lose" {
        /// Numbers of the allocations.
        allocations: Numbers<'a>,
    }
    /// All evictable allocations that may be taken were: `vmaMakePoolAllocationsLost`.
    76 MakeLost "make_lost" {
        /// Number of the pool; `None`: all pools.
        pool: Option<u32>,
        /// How many were lost, if the trace says it.
        count: Option<u64>,
    }
    /// An allocation was created that is lost: `vmaCreateLostAllocation`.
    77 CreateLost "create_lost" {
        /// Number of the allocation.
        allocation: u32,
    }
    /// Evictable allocations of heaps above their budget were taken away.
    78 EvictOverBudget "evict_over_budget" {
        /// Bytes that were taken away.
        bytes: u64,
    }
    /// An allocation was asked for its state: `vmaGetAllocationInfo`, which VMA 2.3 counts as a use.
    79 Query "query" {
        /// Number of the allocation.
        allocation: u32,
    }
    /// The size of an allocation was changed in place: `vmaResizeAllocation` of VMA 2.2.
    80 Resize "resize" {
        /// Number of the allocation.
        allocation: u32,
        /// New size in bytes.
        size: u64,
    }
    /// It was asked to free an allocation, which happens once the device has used it for the last time.
    81 RequestFree "request_free" {
        /// Number of the allocation.
        allocation: u32,
    }
    /// A run of defragmentation began.
    82 BeginDefragmentation "begin_defragmentation" {
        /// Number of the run.
        run: u32,
        /// How far it goes, if the trace says it.
        algorithm: Option<DefragmentationAlgorithm>,
        /// The pools; with no allocations either: all default pools.
        pools: Numbers<'a>,
        /// The allocations that may move, where the caller lists them.
        allocations: Numbers<'a>,
        /// The most bytes that a pass moves; 0 for no limit.
        max_bytes: u64,
        /// The most allocations that a pass moves; 0 for no limit.
        max_moves: u32,
        /// The most regions that a pass looks at; 0 for no limit.
        max_regions: u32,
        /// Whether allocations may move by less than their size.
        slides: bool,
        /// The options of VMA 2.3.
        limits: Option<HostAndDeviceLimits>,
    }
    /// A pass of a defragmentation begins; the moves that it proposes follow.
    83 BeginPass "begin_pass" {
        /// Number of the run.
        run: u32,
        /// Number of the moves.
        moves: u32,
    }
    /// A move was proposed, and its destination reserved.
    84 ProposeMove "propose_move" {
        /// Number of the run.
        run: u32,
        /// Number of the allocation.
        allocation: u32,
        /// Whether source and destination overlap.
        kind: MoveKind,
        /// The destination.
        placed: Placed,
    }
    /// A move ended.
    85 EndMove "end_move" {
        /// Number of the run; `None` for a move outside of any.
        run: Option<u32>,
        /// Number of the allocation.
        allocation: u32,
        /// How it ended.
        result: MoveResult,
        /// Where the allocation is now, if it moved.
        placed: Option<Placed>,
    }
    /// A pass ended.
    86 EndPass "end_pass" {
        /// Number of the run.
        run: u32,
        /// Whether anything was moved or destroyed.
        progressed: bool,
    }
    /// A run of defragmentation ended.
    87 EndDefragmentation "end_defragmentation" {
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
    }
    /// The driver was asked for a memory object: `vkAllocateMemory`.
    88 AllocateMemory "allocate_memory" {
        /// Number of the memory object, if there is one now.
        memory: Option<u32>,
        /// Index into the device's memory types.
        memory_type: Option<u32>,
        /// Size in bytes.
        size: u64,
        /// Priority from 0 to 1.
        priority: Option<f32>,
        /// `VkExternalMemoryHandleTypeFlags` that it can be exported as.
        export_handle_types: u32,
        /// Whether it is dedicated to one resource.
        names_resource: bool,
        /// Whether it was imported.
        is_imported: bool,
        /// The `VkResult`.
        result: i32,
    }
    /// A memory object was given back: `vkFreeMemory`.
    89 FreeMemory "free_memory" {
        /// Number of the memory object.
        memory: u32,
    }
    /// State of a heap and its budget.
    90 Budget "budget" {
        /// Index of the heap.
        heap: u32,
        /// Number of memory objects that the allocator holds.
        block_count: u32,
        /// Their size in bytes.
        block_bytes: u64,
        /// Number of live allocations.
        allocation_count: u64,
        /// Their requested size in bytes.
        allocation_bytes: u64,
        /// Bytes in use of the heap.
        usage: u64,
        /// Bytes that may be in use.
        budget: u64,
    }
    /// Empty blocks were given back to the driver.
    91 Trim "trim" {
        /// Their size in bytes.
        bytes: u64,
    }
    /// Any other call failed.
    92 Failed "failed" {
        /// Name of the function.
        function: &'a str,
        /// What it was called for.
        object: Option<Object>,
        /// The reason.
        failure: Box<Failure<'a>>,
    }
    /// A mark of the program.
    93 Mark "mark" {
        /// Its text.
        text: &'a str,
    }
    /// A virtual block, or a set of them, was created.
    94 CreateSpace "create_space" {
        /// Number of the virtual block or set.
        space: u32,
        /// Size of the block in units; `None` for a set.
        size: Option<u64>,
        /// The algorithm that divides it.
        algorithm: Algorithm,
        /// Minimum alignment of every offset in a set, in units.
        alignment: u64,
        /// Units before and behind each allocation that belong to none.
        margin: Option<u64>,
    }
    /// A virtual block, or a set of them, was destroyed.
    95 DestroySpace "destroy_space" {
        /// Number of the virtual block or set.
        space: u32,
    }
    /// All of a virtual block was freed.
    96 ClearSpace "clear_space" {
        /// Number of the virtual block.
        space: u32,
    }
    /// A virtual block became larger.
    97 GrowSpace "grow_space" {
        /// Number of the virtual block.
        space: u32,
        /// Its new size in units.
        size: u64,
    }
    /// A block was added to a set.
    98 AddBlock "add_block" {
        /// Number of the set.
        space: u32,
        /// Number of the block in the set.
        block: u32,
        /// Its size in units.
        size: u64,
    }
    /// A block of a set was removed, with all its allocations.
    99 RemoveBlock "remove_block" {
        /// Number of the set.
        space: u32,
        /// Number of the block in the set.
        block: u32,
    }
    /// A request to a virtual block failed.
    100 VirtualAllocateFailed "virtual_allocate_failed" {
        /// Number of the virtual block or set.
        space: u32,
        /// Size in units.
        size: u64,
        /// The alignment that was asked for, in units.
        alignment: u64,
        /// Whether it was to be allocated from the upper end.
        upper: bool,
        /// The search strategy.
        strategy: Strategy,
        /// The reason; `None`: a set has no room.
        failure: Option<Box<Failure<'a>>>,
    }
    /// An allocation of a virtual block moved, in a defragmentation.
    101 VirtualMove "virtual_move" {
        /// Number of the virtual block.
        space: u32,
        /// Number of the virtual allocation.
        allocation: u32,
        /// New offset in units.
        offset: u64,
    }
    /// A virtual block was defragmented; its moves follow as a group.
    102 DefragmentSpace "defragment_space" {
        /// Number of the virtual block.
        space: u32,
        /// How far it went.
        algorithm: DefragmentationAlgorithm,
    }
    /// The driver was asked for usage and budgets of its heaps.
    103 QueryBudget "query_budget" {
        /// Whether empty blocks of heaps above their budget were given back.
        trims: bool,
    }
    /// Freed memory in quarantine was given out again.
    104 EndQuarantine "end_quarantine" {
        /// Whether all of it was, or what was overdue.
        all: bool,
    }
    /// Freed regions of a pool were merged to count them, which decides where the next ones go.
    105 MergeFreed "merge_freed" {
        /// Number of the pool.
        pool: Option<u32>,
        /// Memory type of the default pool, if it is that of one.
        memory_type: Option<u32>,
    }
    /// A thread looked whether a pool needs its next block, and allocated it if so.
    106 Prefetch "prefetch" {
        /// Number of the pool.
        pool: Option<u32>,
        /// Memory type of the default pool, if it is that of one.
        memory_type: Option<u32>,
    }
    /// The program refused to let allocations move in the pass that follows.
    107 RefuseMoves "refuse_moves" {
        /// Number of the run.
        run: u32,
        /// Numbers of the allocations.
        allocations: Numbers<'a>,
    }
    /// The limits of the passes to come changed.
    108 LimitPasses "limit_passes" {
        /// Number of the run.
        run: u32,
        /// The most bytes that a pass moves; 0 for no limit.
        max_bytes: u64,
        /// The most allocations that a pass moves; 0 for no limit.
        max_moves: u32,
    }
    /// An allocation leaves its old place allocated, under a number of its own, until that is freed: its move ends next,
    /// or it has moved to make room in the call that follows.
    109 KeepSource "keep_source" {
        /// Number of the old place.
        allocation: u32,
        /// Number of the allocation that moves.
        of: u32,
    }
    /// An allocation can be lost from now on, or cannot any more.
    111 MakeEvictable "make_evictable" {
        /// Number of the allocation.
        allocation: u32,
        /// Its priority from 0 to 1; `None`: it cannot be lost any more.
        priority: Option<f32>,
    }
    /// The program refused to lose allocations in the call that follows, as they are in use.
    110 RefuseLosses "refuse_losses" {
        /// Numbers of the allocations.
        allocations: Numbers<'a>,
    }
    /// Custom data of a virtual allocation were set.
    112 SetVirtualData "set_virtual_data" {
        /// Number of the virtual block.
        space: u32,
        /// Number of the virtual allocation.
        allocation: u32,
        /// The data.
        data: Data<'a>,
    }
    /// Freed ranges of a virtual block were merged to count them, which decides where the next ones go.
    113 MergeSpace "merge_space" {
        /// Number of the virtual block.
        space: u32,
    }
    /// The program said which allocations of a block may move to make room in the call that follows.
    114 AnswerMoves "answer_moves" {
        /// Numbers of those that may.
        allocations: Numbers<'a>,
    }
    /// The program was asked to make room in the call that follows: by losses, and by moves without a run.
    115 MakeRoom "make_room" {
        /// Whether it did.
        is_made: bool,
        /// Whether another plan may be better.
        may_go_on: bool,
        /// Numbers of the allocations that were in the way.
        allocations: Numbers<'a>,
    }
}

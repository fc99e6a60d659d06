//! [`Raw`]: an event as it was told, with copies of all that it refers to.

use vkmem_engine::recording::{Subject, Told, ToldEnd, ToldObject};
use vkmem_engine::{
    Allocation, AllocationId, AllocationRequest, AllocatorOptions, DefragmentationAlgorithm,
    DeviceError, HostRange, ImportRequest, MemoryAllocateInfo, MemoryHandle, MemoryRequirements,
    PoolCreateInfo, PoolId, PoolKey, ResourceKind,
};

use super::raw_failure::RawFailure;
use super::raw_space::RawSpace;

/// No call site.
pub(super) const NO_SITE: u32 = u32::MAX;

/// What every event has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub number: u64,
    /// A stamp of the clock until it is encoded, then the time in ns.
    pub time: u64,
    pub thread: u32,
    /// Number of the call site at its allocator.
    pub site: u32,
    pub allocator: u16,
    pub is_state: bool,
}

/// An event that was told.
pub(super) struct Raw {
    pub head: Head,
    pub what: What,
}

impl Raw {
    /// A text of the recording itself.
    pub fn mark(number: u64, time: u64, text: String) -> Self {
        let head = Head { number, time, thread: 0, site: NO_SITE, allocator: 0, is_state: false };
        Self { head, what: What::Mark(text.into()) }
    }
}

/// How a move ended.
#[derive(Debug)]
pub(super) enum RawEnd {
    Moved { to: Allocation, keeps_source: bool },
    Ignored,
    Kept,
    Destroyed,
    Gone,
}

/// One function of a call stack: file, line, name.
pub type RawFrame = (String, u32, String);

/// What happened.
pub(super) enum What {
    CreateAllocator(Box<AllocatorOptions>),
    Allocate(AllocationRequest, Subject, Allocation),
    Refused(AllocationRequest, Subject, Box<RawFailure>),
    AllocateMany(Box<RawMany>),
    Import(Box<(ImportRequest, Subject, Allocation)>),
    Alias {
        base: Allocation,
        requirements: MemoryRequirements,
        kind: ResourceKind,
        of: Box<(Subject, Allocation, (u64, bool))>,
    },
    EndAlias(u64, bool),
    Free(AllocationId),
    FreeMany(Box<[AllocationId]>),
    CreatePool(Box<PoolCreateInfo>, Result<PoolId, Box<RawFailure>>),
    DestroyPool(PoolId),
    Name(ToldObject, Option<Box<str>>),
    NamePool(PoolId, Option<Box<str>>),
    Data(ToldObject, Option<Box<str>>),
    Retire(ToldObject),
    Map(AllocationId),
    Unmap(AllocationId),
    Flush {
        ranges: Box<[HostRange]>,
        invalidates: bool,
    },
    Failed(&'static str, Option<AllocationId>, Box<RawFailure>),
    Frame(u64),
    QueryBudget(bool),
    Budget {
        heap: u32,
        block_count: u32,
        block_bytes: u64,
        usage: u64,
        budget: u64,
    },
    AllocateMemory(MemoryAllocateInfo, Result<MemoryHandle, DeviceError>),
    FreeMemory(MemoryHandle),
    MakeEvictable(AllocationId, f32),
    EndEvictable(AllocationId),
    Touch(AllocationId),
    Lose(Box<[AllocationId]>),
    RefuseLosses(Box<[AllocationId]>),
    MakeLost(Option<PoolId>, usize),
    EvictOverBudget(u64),
    Trim(u64),
    EndQuarantine(bool),
    Merge(PoolKey),
    Prefetch(PoolKey),
    BeginRun {
        run: u32,
        pool: Option<PoolId>,
        algorithm: DefragmentationAlgorithm,
        limits: (u64, u32),
        max_regions: u32,
        slides: bool,
    },
    BeginPass {
        run: u32,
        limits: (u64, u32),
        moves: u32,
        refused: Box<[AllocationId]>,
    },
    ProposeMove {
        run: u32,
        source: AllocationId,
        destination: Allocation,
        slides: bool,
    },
    MoveForRoom(AllocationId, Allocation),
    KeepForRoom(AllocationId, Allocation),
    AnswerMoves(Box<[AllocationId]>),
    MakeRoom {
        is_made: bool,
        may_go_on: bool,
        in_the_way: Box<[AllocationId]>,
    },
    EndMove {
        run: u32,
        source: AllocationId,
        end: RawEnd,
    },
    EndPass(u32, bool),
    EndRun {
        run: u32,
        bytes_moved: u64,
        bytes_freed: u64,
        allocations_moved: u64,
        blocks_freed: u64,
    },
    Close,
    Space(u32, RawSpace),
    Mark(Box<str>),
    Site(u32, Vec<RawFrame>),
}

/// Allocations of one call.
pub(super) struct RawMany {
    pub requests: Box<[AllocationRequest]>,
    pub subjects: Box<[Subject]>,
    pub made: Result<Box<[Allocation]>, (usize, Box<RawFailure>)>,
}

impl What {
    /// Returns whether it has the call site that was set.
    #[inline]
    pub fn has_site(&self) -> bool {
        matches!(
            self,
            Self::Allocate(..)
                | Self::Refused(..)
                | Self::AllocateMany(_)
                | Self::Import(_)
                | Self::Alias { .. }
                | Self::CreatePool(..)
        )
    }

    /// Copies what was told.
    #[inline]
    pub fn of(told: &Told<'_>) -> Self {
        match *told {
            Told::Allocate(request, subject, Ok(made)) => Self::Allocate(*request, *subject, *made),
            Told::Free(id) => Self::Free(id),
            _ => Self::of_other(told),
        }
    }

    #[inline(never)]
    fn of_other(told: &Told<'_>) -> Self {
        match *told {
            Told::Allocate(request, subject, Ok(made)) => Self::Allocate(*request, *subject, *made),
            Told::Allocate(request, subject, Err(error)) => {
                Self::Refused(*request, *subject, RawFailure::of(error))
            }
            Told::AllocateMany(requests, subjects, made) => Self::AllocateMany(Box::new(RawMany {
                requests: requests.into(),
                subjects: subjects.into(),
                made: match made {
                    Ok(made) => Ok(made.into()),
                    Err(failed) => Err((failed.index, RawFailure::of(&failed.error))),
                },
            })),
            Told::Import(request, subject, Ok(made)) => {
                Self::Import(Box::new((*request, *subject, *made)))
            }
            Told::Import(request, subject, Err(error)) => {
                Self::Refused(request.whole, *subject, RawFailure::of(error))
            }
            Told::Alias { base, requirements, kind, subject, made, handle } => Self::Alias {
                base: *base,
                requirements: *requirements,
                kind,
                of: Box::new((*subject, *made, handle)),
            },
            Told::EndAlias(handle, is_image) => Self::EndAlias(handle, is_image),
            Told::Free(id) | Told::EndLost(id) => Self::Free(id),
            Told::FreeMany(ids) => Self::FreeMany(ids.into()),
            Told::CreatePool(info, made) => {
                Self::CreatePool(Box::new(*info), made.map_err(RawFailure::of))
            }
            Told::DestroyPool(id) => Self::DestroyPool(id),
            Told::Name(of, name) => Self::Name(of, name.map(Into::into)),
            Told::NamePool(id, name) => Self::NamePool(id, name.map(Into::into)),
            Told::Data(of, text) => Self::Data(of, text.map(Into::into)),
            Told::Retire(of) => Self::Retire(of),
            Told::Map(id) => Self::Map(id),
            Told::Unmap(id) => Self::Unmap(id),
            Told::Flush(ranges) => Self::Flush { ranges: ranges.into(), invalidates: false },
            Told::Invalidate(ranges) => Self::Flush { ranges: ranges.into(), invalidates: true },
            Told::Failed(function, id, error) => Self::Failed(function, id, RawFailure::of(error)),
            Told::Frame(frame) => Self::Frame(frame),
            Told::QueryBudget { trims } => Self::QueryBudget(trims),
            Told::Budget { heap, block_count, block_bytes, usage, budget } => {
                Self::Budget { heap, block_count, block_bytes, usage, budget }
            }
            Told::AllocateMemory(info, made) => Self::AllocateMemory(*info, made),
            Told::FreeMemory(memory) => Self::FreeMemory(memory),
            Told::MakeEvictable(id, priority) => Self::MakeEvictable(id, priority),
            Told::EndEvictable(id) => Self::EndEvictable(id),
            Told::Touch(id) => Self::Touch(id),
            Told::Lose(ids) => Self::Lose(ids.into()),
            Told::RefuseLosses(ids) => Self::RefuseLosses(ids.into()),
            Told::MakeLost(pool, count) => Self::MakeLost(pool, count),
            Told::EvictOverBudget(bytes) => Self::EvictOverBudget(bytes),
            Told::Trim(bytes) => Self::Trim(bytes),
            Told::EndQuarantine { all } => Self::EndQuarantine(all),
            Told::Merge(pool) => Self::Merge(pool),
            Told::Prefetch(pool) => Self::Prefetch(pool),
            Told::BeginDefragmentation {
                run,
                pool,
                algorithm,
                max_bytes,
                max_moves,
                max_regions,
                slides,
            } => {
                let limits = (max_bytes, max_moves);
                Self::BeginRun { run, pool, algorithm, limits, max_regions, slides }
            }
            Told::BeginPass { run, limits, moves, refused } => {
                Self::BeginPass { run, limits, moves, refused: refused.into() }
            }
            Told::ProposeMove { run, source, destination, slides } => {
                Self::ProposeMove { run, source, destination: *destination, slides }
            }
            Told::EndMove { run, source, end } => {
                let end = match end {
                    ToldEnd::Moved(to) => RawEnd::Moved { to: *to, keeps_source: false },
                    ToldEnd::MovedFrom(to) => RawEnd::Moved { to: *to, keeps_source: true },
                    ToldEnd::Ignored => RawEnd::Ignored,
                    ToldEnd::Kept => RawEnd::Kept,
                    ToldEnd::Destroyed => RawEnd::Destroyed,
                    ToldEnd::Gone => RawEnd::Gone,
                };
                Self::EndMove { run, source, end }
            }
            Told::MoveForRoom(from, to) => Self::MoveForRoom(from, *to),
            Told::KeepForRoom(from, to) => Self::KeepForRoom(from, *to),
            Told::AnswerMoves(ids) => Self::AnswerMoves(ids.into()),
            Told::MakeRoom { is_made, may_go_on, in_the_way } => {
                Self::MakeRoom { is_made, may_go_on, in_the_way: in_the_way.into() }
            }
            Told::EndPass(run, progressed) => Self::EndPass(run, progressed),
            Told::EndDefragmentation {
                run,
                bytes_moved,
                bytes_freed,
                allocations_moved,
                blocks_freed,
            } => Self::EndRun { run, bytes_moved, bytes_freed, allocations_moved, blocks_freed },
            Told::Close => Self::Close,
        }
    }
}

//! Events of an allocator, as listeners receive them.

use pyo3::prelude::*;
use vkmem_engine::{Allocation, AllocationId, Error, PoolId};
use vkmem_vulkan::ResourceHandle;

use super::call_site::Origin;

/// A resource that was created or is about to be released.
pub trait Observable {
    /// Returns the id of its memory.
    fn id(&self) -> AllocationId;

    /// Returns the size of its memory, in bytes.
    fn size(&self) -> u64;

    /// Returns the buffer or image.
    fn handle(&self) -> ResourceHandle;

    /// Returns whether it lies in the memory of another resource, so that it allocated none.
    fn is_alias(&self) -> bool;
}

/// A new resource and its place.
#[derive(Clone, Copy)]
pub struct Placed {
    /// Its memory; for an alias, its place in the memory of the other resource.
    pub allocation: Allocation,
    /// Size of the buffer, or of the memory of anything else, in bytes.
    pub size: u64,
    /// `VkBufferUsageFlags2` or `VkImageUsageFlags`; 0 for memory only.
    pub usage: u64,
    /// Whether it is bound to that memory; not if it was created with `DONT_BIND`.
    pub is_bound: bool,
}

/// A resource that stores where it was created.
pub trait Traced: Observable {
    /// Returns its place.
    fn placed(&self) -> Placed;

    /// Sets the call site; the first one stays.
    fn set_origin(&self, origin: Origin);

    /// Returns the call site, if one was set.
    fn origin(&self) -> Option<Origin>;
}

/// The resources of one call.
#[derive(Clone, Copy)]
pub struct Batch<'a, T: ?Sized> {
    count: usize,
    at: &'a dyn Fn(usize) -> &'a T,
}

impl<'a, T: ?Sized> Batch<'a, T> {
    /// Takes `count` resources, each of which `at` returns by its index.
    pub fn new(count: usize, at: &'a dyn Fn(usize) -> &'a T) -> Self {
        Self { count, at }
    }

    /// Returns the number of resources.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns the resource, if there is one only.
    pub fn only(&self) -> Option<&'a T> {
        (self.count == 1).then(|| (self.at)(0))
    }

    /// Iterates over the resources in the order of the call.
    pub fn iter(&self) -> impl Iterator<Item = &'a T> {
        (0..self.count).map(self.at)
    }
}

/// The object whose name was set.
#[derive(Clone, Copy)]
pub enum Named {
    /// A resource, by the id of its memory.
    Resource(AllocationId),
    /// A pool.
    Pool(PoolId),
}

/// Bytes of a resource that were made visible to the device or the host.
#[derive(Clone, Copy)]
pub struct Visible {
    /// The memory of the resource.
    pub id: AllocationId,
    /// Offset in bytes from the start of the resource.
    pub offset: u64,
    /// Size in bytes; `u64::MAX` for up to the end.
    pub size: u64,
}

/// A resource that has moved to other memory.
#[derive(Clone, Copy)]
pub struct Relocated {
    /// The memory that it was in.
    pub before: AllocationId,
    /// The memory that it is in.
    pub after: AllocationId,
    /// Size in bytes.
    pub size: u64,
    /// The buffer or image that it was.
    pub handle_before: ResourceHandle,
    /// The buffer or image that it is.
    pub handle: ResourceHandle,
    /// Its new place.
    pub place: Allocation,
}

/// A change of an allocator. All but `Create` may come on a thread that does not hold the GIL.
pub enum Event<'a> {
    /// Resources were created; no lock is held, so Python code may run.
    Create {
        /// The thread holds the GIL.
        py: Python<'a>,
        /// What was created.
        resources: Batch<'a, dyn Traced + 'a>,
        /// Returns the name that each is given, by its index.
        name: &'a dyn Fn(usize) -> Option<&'a str>,
    },
    /// Resources are about to be destroyed and their memory freed.
    Free(Batch<'a, dyn Observable + 'a>),
    /// Resources have moved to other memory. What they leave behind is freed without an event.
    Move(&'a [Relocated]),
    /// Resources were lost: their memory was taken away for other use.
    Lose(Batch<'a, dyn Observable + 'a>),
    /// Memory was mapped (`vmaMapMemory`).
    Map(AllocationId),
    /// A map was undone (`vmaUnmapMemory`).
    Unmap(AllocationId),
    /// Host writes were made visible to the device (`vmaFlushAllocation`).
    Flush(&'a [Visible]),
    /// Device writes were made visible to the host (`vmaInvalidateAllocation`).
    Invalidate(&'a [Visible]),
    /// The name of a resource or a pool was set or removed.
    Name(Named, Option<&'a str>),
    /// A pool was created.
    CreatePool(PoolId),
    /// A pool was destroyed.
    DestroyPool(PoolId),
    /// A frame began (`vmaSetCurrentFrameIndex`).
    Frame(u64),
    /// An attempt to allocate failed for another reason than wrong arguments. The callback of
    /// `on_out_of_memory` may lead to another attempt.
    Failure(&'a Error),
}

macro_rules! event_kinds {
    ($($kind:ident: $name:literal,)+) => {
        /// Kinds of events; their numbers are bits of a listener's interest.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum EventKind {
            $(
                #[doc = concat!("[`Event::", stringify!($kind), "`]")]
                $kind,
            )+
        }

        impl EventKind {
            /// All kinds with their names, in the order of their numbers.
            pub const ALL: &[(Self, &'static str)] = &[$((Self::$kind, $name),)+];
        }
    };
}

event_kinds! {
    Create: "create",
    Free: "free",
    Move: "move",
    Lose: "lose",
    Map: "map",
    Unmap: "unmap",
    Flush: "flush",
    Invalidate: "invalidate",
    Name: "name",
    CreatePool: "create_pool",
    DestroyPool: "destroy_pool",
    Frame: "frame",
    Failure: "failure",
}

impl EventKind {
    /// Returns the bit of this kind in a listener's interest.
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl Event<'_> {
    /// Returns the kind of the event.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Create { .. } => EventKind::Create,
            Self::Free(_) => EventKind::Free,
            Self::Move(_) => EventKind::Move,
            Self::Lose(_) => EventKind::Lose,
            Self::Map(_) => EventKind::Map,
            Self::Unmap(_) => EventKind::Unmap,
            Self::Flush(_) => EventKind::Flush,
            Self::Invalidate(_) => EventKind::Invalidate,
            Self::Name(..) => EventKind::Name,
            Self::CreatePool(_) => EventKind::CreatePool,
            Self::DestroyPool(_) => EventKind::DestroyPool,
            Self::Frame(_) => EventKind::Frame,
            Self::Failure(_) => EventKind::Failure,
        }
    }

    /// Returns the number of resources or objects that the event is about.
    pub fn count(&self) -> u64 {
        let count = match self {
            Self::Create { resources, .. } => resources.len(),
            Self::Free(resources) | Self::Lose(resources) => resources.len(),
            Self::Move(moved) => moved.len(),
            Self::Flush(ranges) | Self::Invalidate(ranges) => ranges.len(),
            _ => 1,
        };
        count as u64
    }
}

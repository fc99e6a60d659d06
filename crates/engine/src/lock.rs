//! All locks of the library, and the order in which a thread may take them.
//!
//! Each lock has a rank, which is part of its type and costs nothing at run time. A thread takes locks in
//! ascending order of rank, as [`rank`] lists them, so no two threads can deadlock. In checked builds
//! (`debug_assertions` or the feature `validate`, which all tests use) a thread panics that takes a lock
//! whose rank is not above those it holds; the message names both ranks. Other builds contain none of the
//! checks.
//!
//! - The lock of the calling program, Python's GIL, has a rank, too: [`rank::Interpreter`]. Locks of lower
//!   ranks may be held during driver calls. The driver may run code of the program (a debug callback, an
//!   allocation callback, a loader), which acquires the GIL: so a thread that holds the GIL must not wait for
//!   such a lock. Locks of higher ranks are short: not held during driver calls, nor while Python code runs
//!   (which includes drops of Python objects, exceptions and warnings), nor while the thread waits for the GIL.
//! - Two locks of one rank must not be held together. The exception is [`ReentrantMutex`]: those of one rank
//!   are taken in ascending order of address, and one that the thread holds may be taken again.
//! - `try_lock` does not wait, so it may be called in any order. A lock taken that way counts as held.
//! - A thread that waits at a [`Condvar`] takes the lock again afterwards, so it must hold no lock of a higher
//!   rank.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

/// The place of a lock in the order.
pub trait Rank {
    /// Number of the rank; lower ranks are taken first.
    const NUMBER: usize;
}

macro_rules! ranks {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        enum Number { $($name,)+ }

        /// Names of the ranks, by number.
        #[cfg(any(debug_assertions, feature = "validate", feature = "lock-times", test))]
        const NAMES: &[&str] = &[$(stringify!($name),)+];

        /// The ranks, in ascending order.
        pub mod rank {
            $(
                $(#[doc = $doc])+
                #[derive(Debug)]
                pub enum $name {}

                impl super::Rank for $name {
                    const NUMBER: usize = super::Number::$name as usize;
                }
            )+
        }
    };
}

ranks! {
    // ---- May be held during driver calls: not waited for while holding the GIL -----------------------

    /// The system's Vulkan loader. First: no other lock is held while it is loaded.
    Loader,
    /// The creation of the memory of a ring for transfers. Held while that is allocated.
    TransferRing,
    /// The table of bindings of one device. Before the lists of live resources, which are walked under it
    /// once, and before the memory that is bound.
    Bindings,
    /// Writers that have not flushed an allocation yet. Before the memory object, which stays mapped during a
    /// flush.
    Writers,
    /// The mapping of one `VkDeviceMemory`. Held while the driver maps, unmaps or frees it.
    Mapping,
    /// The order of `vkAllocateMemory` and `vkFreeMemory` events. Held during `vkFreeMemory`, possibly of a
    /// memory object whose mapping is locked.
    MemoryEventOrder,
    /// The messenger that a device reports bindings of addresses to. Held while it is created and destroyed.
    BindingMessenger,
    /// Use of a `VkDeviceMemory` while the driver maps it. Held only around driver calls.
    MemoryUse,
    /// The prefetch thread. Alone: it is joined without the lock, but may be in a driver call, for which the
    /// lock waits.
    PrefetchThread,
    /// The thread that gives memory back. Alone, as the prefetch thread, and for the same reason.
    ReclaimThread,
    /// The queue of a device. Held around `vkQueueSubmit` and `vkQueueWaitIdle`.
    Queue,
    /// Command buffers in flight and the progress of the queue. After the queue, as a submission gets its
    /// number there; the driver is queried while it is held.
    Submissions,
    /// Pending submissions of a simulated device. Held while their commands are executed.
    SimulatedSubmissions,

    // ---- The GIL --------------------------------------------------------------------------------------

    /// The lock of the calling program: Python's GIL.
    Interpreter,

    // ---- Short: no driver calls, no Python code, no wait for the GIL ----------------------------------

    /// Which thread moves resources of an allocator. Alone.
    Moving,
    /// The movable resources of an allocator, or those that may be lost, by their memory. Alone.
    MovableTable,
    /// Resources that were lost, until their callbacks are called. Alone.
    Lost,
    /// What is known of allocations whose memory is watched. Before the engine's locks: it is asked for their names.
    DebugRecords,
    /// What is known of the slices of buffer heaps whose memory is watched. Alone.
    DebugSlices,
    /// Threads that check all memory that is watched. Alone.
    DebugChecks,
    /// A defragmentation that goes on in steps, between two of them. Alone.
    Stepping,
    /// A defragmentation whose copies the caller makes. Alone.
    Protocol,
    /// The Python objects of one. Alone.
    ProtocolObjects,
    /// Transfers of an allocator. Alone: a copy of the list is iterated.
    Background,
    /// Batches of transfers that threads have open. Before the batches themselves.
    OpenBatches,
    /// Transfers in flight. Before each transfer, whose state is read.
    TransfersInFlight,
    /// Registered arrays. Alone.
    Registrations,
    /// A registered array. Alone.
    RegisteredArray,
    /// Batches of transfers. They are submitted without the lock.
    TransferBatches,
    /// Images that submitted transfers use. Before their layouts.
    TransferImages,
    /// The layout of an image. After the batches, which note there what they have recorded.
    TransferLayouts,
    /// The segments of a ring for transfers. Alone.
    TransferSegments,
    /// The state of one transfer. Last of those of transfers.
    Transfer,
    /// The Python objects of one transfer. Alone.
    TransferObjects,
    /// Submissions that a lost device took with it. Alone.
    TransfersLost,
    /// What went wrong in a call that transfers. Alone.
    TransferFailure,
    /// All open allocators of the process. Before the lists of each.
    OpenAllocators,
    /// Live resources of an allocator. Before those that wait for their frame: both are counted together.
    Live,
    /// Resources that wait until no frame in flight can use them.
    Waiting,
    /// What resources have left where they were before they moved. It is counted with those that are live.
    MovesInFlight,
    /// The thread that closes an allocator.
    Closing,
    /// Threads that are taking a sample. Alone.
    Samples,
    /// Names of the pools of an allocator. Alone.
    PoolNames,
    /// The name of one pool. Alone.
    PoolName,
    /// The name of an alias. Alone.
    AliasName,
    /// Host memory that a resource holds. Alone.
    HeldMemory,
    /// User data of a resource as a text. Alone.
    CustomData,
    /// User data of a resource, or of the allocations of a virtual block. Before the owner of the memory,
    /// which a resource drops together with them.
    UserData,
    /// The Python object whose memory another one uses.
    MemoryOwner,
    /// The Python object that a pool's `memory_allocate_next` points into. Alone.
    PoolNext,
    /// A callback of the program. Alone: it runs without the lock.
    Callback,
    /// Threads inside the callback of `on_out_of_memory`. Alone.
    Handling,
    /// Number of views of a mapping. Alone.
    MappingViews,
    /// The view that a mapping returned. Alone.
    MappingView,
    /// Listeners for the events of an allocator. Alone: a copy of the list is iterated.
    Listeners,
    /// Counts of `vk_mem.statistics`. Alone.
    WatchRows,
    /// What is kept of resources to explain faults. Alone.
    FaultRecords,
    /// Call sites. Alone.
    CallSites,
    /// Buffers that an allocator has made for itself. Alone.
    OwnBuffers,
    /// One virtual block, or many as one. Alone.
    VirtualBlock,
    /// Who looks at freed memory before it is given out again. Alone: it is called without the lock.
    QuarantineOwner,
    /// Who owns the evictable allocations of an allocator. Alone: it is called without the lock.
    EvictionOwner,
    /// The pools of an allocator that have evictable allocations. Before those of each.
    EvictablePools,
    /// The evictable allocations of one pool. Before its blocks, in which they are looked up.
    Evictables,
    /// The custom pools of an allocator. Before their arenas.
    Pools,
    /// The blocks of one pool. Before the budgets, which limit the size of a new block.
    Arena,
    /// The dedicated allocations of one memory type.
    Dedicated,
    /// Pools that need a block. Alone.
    PrefetchQueue,
    /// Memory that is to be given back. Alone, or after the thread that does so.
    ReclaimQueue,
    /// Names of allocations. After all locks that lead to an allocation.
    Names,
    /// Map counts beyond those that a region stores. After all locks that lead to an allocation.
    MoreMaps,
    /// Events of memory objects that have not been delivered yet.
    MemoryEvents,
    /// The last report of the driver about a heap. After the arena that checks the budget.
    HeapReport,
    /// Who records an allocator. Before what it keeps; after all locks of the engine under which it is told.
    Recorder,
    /// The thread that writes a recording. Alone: it is joined without the lock.
    RecordingThread,
    /// Who records an allocator, as its Python object knows it. Alone.
    Attached,
    /// The allocators of a recording. Alone.
    AttachedAllocators,
    /// What a recorder has encoded. Before the events that are not, which are taken while it is held.
    Recording,
    /// Events that were told to a recorder and are not encoded yet. Alone: told under other short locks.
    RecordedEvents,
    /// Image formats that a device supports. Alone: the driver is queried without the lock.
    ImageFormats,
    /// Planes of disjoint images. Alone.
    DisjointImages,
    /// One object of a replayed trace. Alone: the engine is called without it.
    ReplayObject,
    /// What the driver has to answer in a replay, and what it holds. Alone: it may be called with locks of lower ranks.
    ReplayDriver,
    /// Memory exported by simulated devices. Before the memory objects, which an import reads.
    SimulatedExports,
    /// Ranges that the library itself writes in a simulated device's memory. Before all that a look for other writes
    /// reads.
    SimulatedOwnWrites,
    /// Buffers and images of a simulated device. Before the memory that they are bound to.
    SimulatedResources,
    /// The source of a simulated device's budget. Before the memory objects that are counted for it.
    SimulatedBudget,
    /// Memory objects of a simulated device.
    SimulatedObjects,
    /// The store of a simulated memory object, created on first use.
    SimulatedStore,
    /// Freed memory of a simulated device that stays at its address. Alone.
    SimulatedUnmapped,
    /// The bytes in a store. One store at a time: copies go through a buffer.
    SimulatedBytes,
    /// Counts, failures and log of a simulated device: each call takes it first.
    SimulatedCalls,
    /// Violations of Vulkan's rules that a simulated device has found, anywhere.
    SimulatedViolations,
    /// Faults of a simulated device. Alone.
    SimulatedFaults,
    /// The bindings of a device's addresses. Before no other: the driver may call back from anywhere.
    AddressBindings,
    /// Messages of the validation layer. Last: the driver may call back from anywhere.
    ValidationMessages,
}

/// The locks that a thread holds, in checked builds.
#[cfg(any(debug_assertions, feature = "validate"))]
mod held {
    use std::cell::Cell;
    use std::sync::OnceLock;

    use super::{NAMES, Rank, rank};

    thread_local! {
        /// Number of guards of each rank: they may be dropped in any order, and counting takes no host
        /// memory.
        static COUNTS: [Cell<u32>; NAMES.len()] = const { [const { Cell::new(0) }; NAMES.len()] };
        /// The highest address that was locked of each rank since the thread last held none of it.
        static ADDRESSES: [Cell<usize>; NAMES.len()] = const { [const { Cell::new(0) }; NAMES.len()] };
    }

    static HOLDS_INTERPRETER: OnceLock<fn() -> bool> = OnceLock::new();

    pub fn set_interpreter_check(has: fn() -> bool) {
        HOLDS_INTERPRETER.get_or_init(|| has);
    }

    fn highest() -> Option<usize> {
        COUNTS.with(|counts| counts.iter().rposition(|it| it.get() > 0))
    }

    #[cold]
    #[track_caller]
    fn wrong(taken: usize, held: usize, why: &str) {
        // A second panic would abort the process before the first one is printed.
        if !std::thread::panicking() {
            panic!(
                "the lock {} is taken by a thread that holds {}: {why}",
                NAMES[taken], NAMES[held]
            );
        }
    }

    /// Panics unless this thread may wait for a lock.
    #[track_caller]
    pub fn check<R: Rank>(address: Option<usize>) {
        let number = R::NUMBER;
        if let Some(held) = highest() {
            let follows = || {
                address.is_some_and(|it| it > ADDRESSES.with(|addresses| addresses[number].get()))
            };
            if number < held {
                wrong(number, held, "it comes first in the order");
            } else if number == held && !follows() {
                wrong(number, held, "two of one rank, not in the order of their addresses");
            }
        }
        if number < rank::Interpreter::NUMBER && HOLDS_INTERPRETER.get().is_some_and(|has| has()) {
            wrong(number, rank::Interpreter::NUMBER, "who has that may be waited for");
        }
    }

    pub fn add<R: Rank>(address: usize) {
        COUNTS.with(|counts| counts[R::NUMBER].set(counts[R::NUMBER].get() + 1));
        let last = |addresses: &[Cell<usize>; NAMES.len()]| {
            addresses[R::NUMBER].set(addresses[R::NUMBER].get().max(address));
        };
        ADDRESSES.with(last);
    }

    pub fn remove<R: Rank>() {
        let count = COUNTS.with(|counts| {
            counts[R::NUMBER].set(counts[R::NUMBER].get() - 1);
            counts[R::NUMBER].get()
        });
        if count == 0 {
            ADDRESSES.with(|addresses| addresses[R::NUMBER].set(0));
        }
    }
}

/// No checks in other builds.
#[cfg(not(any(debug_assertions, feature = "validate")))]
mod held {
    use super::Rank;

    #[inline(always)]
    pub fn set_interpreter_check(_: fn() -> bool) {}

    #[inline(always)]
    pub fn check<R: Rank>(_: Option<usize>) {}
}

/// Sets the function by which checked builds determine whether a thread holds the GIL. Only the first call
/// has an effect.
#[inline(always)]
pub fn set_interpreter_check(has: fn() -> bool) {
    held::set_interpreter_check(has);
}

/// Checks the locks that this thread holds: to be called before it waits for the GIL, which is not a lock of
/// this file, and before it runs foreign code that may do so.
///
/// # Panics
/// In checked builds, if this thread holds a lock of a higher rank.
#[inline(always)]
#[cfg_attr(any(debug_assertions, feature = "validate"), track_caller)]
pub fn check<R: Rank>() {
    held::check::<R>(None);
}

/// The longest time that this thread held a lock of each rank.
#[cfg(feature = "lock-times")]
mod times {
    use std::cell::Cell;
    use std::time::Duration;

    use super::NAMES;

    thread_local! {
        pub static LONGEST: [Cell<Duration>; NAMES.len()] =
            const { [const { Cell::new(Duration::ZERO) }; NAMES.len()] };
    }
}

/// Returns the longest time that this thread held a lock of a rank since the last call, waits at a [`Condvar`]
/// included.
#[cfg(feature = "lock-times")]
pub fn take_longest<R: Rank>() -> std::time::Duration {
    times::LONGEST.with(|longest| longest[R::NUMBER].take())
}

/// Counts one guard as held. Has no size, unless times are measured.
struct Held<R: Rank> {
    #[cfg(feature = "lock-times")]
    since: Instant,
    rank: PhantomData<fn() -> R>,
}

impl<R: Rank> Held<R> {
    /// Counts a lock as held.
    #[inline(always)]
    fn new<L>(lock: &L) -> Self {
        #[cfg(any(debug_assertions, feature = "validate"))]
        held::add::<R>(std::ptr::from_ref(lock).addr());
        let _ = lock;
        Self {
            #[cfg(feature = "lock-times")]
            since: Instant::now(),
            rank: PhantomData,
        }
    }
}

#[cfg(any(debug_assertions, feature = "validate", feature = "lock-times"))]
impl<R: Rank> Drop for Held<R> {
    fn drop(&mut self) {
        #[cfg(feature = "lock-times")]
        times::LONGEST.with(|longest| {
            longest[R::NUMBER].set(longest[R::NUMBER].get().max(self.since.elapsed()));
        });
        #[cfg(any(debug_assertions, feature = "validate"))]
        held::remove::<R>();
    }
}

macro_rules! guard {
    ($(#[doc = $doc:literal])+ $name:ident) => {
        $(#[doc = $doc])+
        #[cfg_attr(not(feature = "lock-times"), repr(transparent))]
        #[must_use = "it is unlocked when dropped"]
        pub struct $name<'a, T, R: Rank> {
            guard: parking_lot::$name<'a, T>,
            _held: Held<R>,
        }

        impl<T, R: Rank> Deref for $name<'_, T, R> {
            type Target = T;

            #[inline(always)]
            fn deref(&self) -> &T {
                &self.guard
            }
        }
    };
    ($(#[doc = $doc:literal])+ mut $name:ident) => {
        guard!($(#[doc = $doc])+ $name);

        impl<T, R: Rank> DerefMut for $name<'_, T, R> {
            #[inline(always)]
            fn deref_mut(&mut self) -> &mut T {
                &mut self.guard
            }
        }
    };
}

guard! {
    /// A locked [`Mutex`].
    mut MutexGuard
}
guard! {
    /// An [`RwLock`] that is locked for reading.
    RwLockReadGuard
}
guard! {
    /// An [`RwLock`] that is locked for writing.
    mut RwLockWriteGuard
}
guard! {
    /// A locked [`ReentrantMutex`].
    ReentrantMutexGuard
}

macro_rules! lock {
    ($(#[doc = $doc:literal])+ $name:ident) => {
        $(#[doc = $doc])+
        #[repr(transparent)]
        pub struct $name<T, R: Rank> {
            lock: parking_lot::$name<T>,
            rank: PhantomData<fn() -> R>,
        }

        impl<T, R: Rank> $name<T, R> {
            /// Creates an unlocked lock.
            #[inline(always)]
            pub const fn new(value: T) -> Self {
                Self { lock: parking_lot::$name::new(value), rank: PhantomData }
            }

            /// Returns the value, as `&mut self` proves that no other thread uses the lock.
            #[inline(always)]
            pub fn get_mut(&mut self) -> &mut T {
                self.lock.get_mut()
            }
        }

        impl<T: Default, R: Rank> Default for $name<T, R> {
            #[inline(always)]
            fn default() -> Self {
                Self::new(T::default())
            }
        }

        impl<T: fmt::Debug, R: Rank> fmt::Debug for $name<T, R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.lock.fmt(f)
            }
        }
    };
}

lock! {
    /// A mutex with a rank.
    Mutex
}
lock! {
    /// A reader-writer lock with a rank.
    RwLock
}
lock! {
    /// A mutex with a rank that its thread may lock again, and that is locked together with others of its
    /// rank.
    ReentrantMutex
}

macro_rules! take {
    ($(#[doc = $doc:literal])+ $lock:ident, $method:ident -> $guard:ident) => {
        impl<T, R: Rank> $lock<T, R> {
            $(#[doc = $doc])+
            #[inline(always)]
            #[cfg_attr(any(debug_assertions, feature = "validate"), track_caller)]
            pub fn $method(&self) -> $guard<'_, T, R> {
                held::check::<R>(None);
                $guard { guard: self.lock.$method(), _held: Held::new(self) }
            }
        }
    };
    ($(#[doc = $doc:literal])+ $lock:ident, $method:ident -> try $guard:ident) => {
        impl<T, R: Rank> $lock<T, R> {
            $(#[doc = $doc])+
            #[inline(always)]
            pub fn $method(&self) -> Option<$guard<'_, T, R>> {
                self.lock.$method().map(|guard| $guard { guard, _held: Held::new(self) })
            }
        }
    };
}

take! {
    /// Waits until no other thread holds the mutex, and locks it.
    Mutex, lock -> MutexGuard
}
take! {
    /// Locks the mutex if no thread holds it.
    Mutex, try_lock -> try MutexGuard
}
take! {
    /// Waits until no thread writes or waits to write, and locks for reading.
    RwLock, read -> RwLockReadGuard
}
take! {
    /// Waits until no thread writes, and locks for reading, ahead of threads that wait to write.
    RwLock, read_recursive -> RwLockReadGuard
}
take! {
    /// Locks for reading if no thread writes.
    RwLock, try_read_recursive -> try RwLockReadGuard
}
take! {
    /// Waits until no thread reads or writes, and locks for writing.
    RwLock, write -> RwLockWriteGuard
}

impl<T, R: Rank> ReentrantMutex<T, R> {
    /// Waits until no other thread holds the mutex, and locks it, once more if this thread holds it.
    #[inline(always)]
    #[cfg_attr(any(debug_assertions, feature = "validate"), track_caller)]
    pub fn lock(&self) -> ReentrantMutexGuard<'_, T, R> {
        if cfg!(any(debug_assertions, feature = "validate"))
            && !self.lock.is_owned_by_current_thread()
        {
            held::check::<R>(Some(std::ptr::from_ref(self).addr()));
        }
        ReentrantMutexGuard { guard: self.lock.lock(), _held: Held::new(self) }
    }
}

/// A condition variable: threads wait there for a change of the value in a [`Mutex`].
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Condvar(parking_lot::Condvar);

impl Condvar {
    /// Creates a condition variable.
    pub const fn new() -> Self {
        Self(parking_lot::Condvar::new())
    }

    /// Unlocks the mutex, waits until it is notified, and locks it again.
    #[inline(always)]
    #[cfg_attr(any(debug_assertions, feature = "validate"), track_caller)]
    pub fn wait<T, R: Rank>(&self, guard: &mut MutexGuard<'_, T, R>) {
        let _away = Away::<R>::begin();
        self.0.wait(&mut guard.guard);
    }

    /// Waits as [`wait`](Self::wait) does, at most until `end`. Returns false if `end` was reached.
    #[inline(always)]
    #[cfg_attr(any(debug_assertions, feature = "validate"), track_caller)]
    pub fn wait_until<T, R: Rank>(&self, guard: &mut MutexGuard<'_, T, R>, end: Instant) -> bool {
        let _away = Away::<R>::begin();
        !self.0.wait_until(&mut guard.guard, end).timed_out()
    }

    /// Wakes one waiting thread.
    #[inline(always)]
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all waiting threads.
    #[inline(always)]
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A lock that is released during a wait. Counted as held again on drop, also when the wait panics, as the
/// guard is dropped then.
struct Away<R: Rank>(PhantomData<fn() -> R>);

impl<R: Rank> Away<R> {
    #[inline(always)]
    #[cfg_attr(any(debug_assertions, feature = "validate"), track_caller)]
    fn begin() -> Self {
        #[cfg(any(debug_assertions, feature = "validate"))]
        held::remove::<R>();
        let away = Self(PhantomData);
        held::check::<R>(None);
        away
    }
}

#[cfg(any(debug_assertions, feature = "validate"))]
impl<R: Rank> Drop for Away<R> {
    fn drop(&mut self) {
        held::add::<R>(0);
    }
}

#[cfg(not(feature = "lock-times"))]
const _: () = {
    use std::mem::size_of;
    type R = rank::Arena;
    // A rank has no size, neither in a lock nor in a guard.
    assert!(size_of::<Mutex<u64, R>>() == size_of::<parking_lot::Mutex<u64>>());
    assert!(size_of::<RwLock<u64, R>>() == size_of::<parking_lot::RwLock<u64>>());
    assert!(size_of::<ReentrantMutex<u64, R>>() == size_of::<parking_lot::ReentrantMutex<u64>>());
    assert!(size_of::<Condvar>() == size_of::<parking_lot::Condvar>());
    assert!(size_of::<MutexGuard<u64, R>>() == size_of::<parking_lot::MutexGuard<u64>>());
    // And other builds do nothing for it.
    assert!(
        cfg!(any(debug_assertions, feature = "validate")) || !std::mem::needs_drop::<Held<R>>()
    );
};

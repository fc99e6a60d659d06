//! All locks of the library, and the order in which a thread may take them.
//!
//! Each lock has a rank, which is part of its type and costs nothing. A thread takes ranks upwards only, as
//! [`rank`] lists them: then no two threads can wait for each other. In checked builds (`debug_assertions` or
//! the feature `validate`, with which all tests run) a thread that takes a rank below or beside one that it
//! holds panics with the names of both; in others nothing of that is left.
//!
//! - The lock of a program around the calls of this library, as Python's GIL, is one of them:
//!   [`rank::Interpreter`]. What is below it may be held while the driver works. The driver may run code of
//!   the program (a debug callback, an allocation callback, a loader), which takes the interpreter: so who
//!   has the interpreter must not wait for such a lock. What is above it is short: it is not held while the
//!   driver works, while Python code runs (that includes letting go of a Python object, raising, and warning), or
//!   while the interpreter is waited for.
//! - Two locks of one rank are not held together. The exception is [`ReentrantMutex`]: the ones of a rank are
//!   taken in the order of their addresses, and one that the thread has may be taken again.
//! - To try a lock waits for nobody, so it may be done in any order. What was taken so counts as held.
//! - Who waits at a [`Condvar`] takes the lock again afterwards, and holds nothing above it.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

/// The place of a lock in the order.
pub trait Rank {
    /// Counted from the first that may be taken.
    const NUMBER: usize;
}

macro_rules! ranks {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        enum Number { $($name,)+ }

        /// By number.
        #[cfg(any(debug_assertions, feature = "validate", test))]
        const NAMES: &[&str] = &[$(stringify!($name),)+];

        /// The ranks, from those that are taken first to those that are taken last.
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
    // ---- May be held while the driver works: not waited for with the interpreter -------------------

    /// The system's Vulkan loader. First: it is looked for while nothing else is done.
    Loader,
    /// What is bound to what, on one device. Before the lists of live things, which are looked through under
    /// it once, and before the memory that something is bound to.
    Bindings,
    /// Who may have written to an allocation and not flushed it. Before the memory object, which is kept
    /// mapped during a flush.
    Writers,
    /// The mapping of one `VkDeviceMemory`. Held while the driver maps, unmaps or frees it.
    Mapping,
    /// The order of `vkAllocateMemory` and `vkFreeMemory` among the events. A free happens under it, and may
    /// be that of a memory object whose mapping is locked.
    MemoryEventOrder,
    /// Who may use a `VkDeviceMemory` while the driver maps it. Right around calls of the driver.
    MemoryUse,
    /// The thread that takes blocks ahead of time. Alone: it is joined without the lock, but it may be in a call
    /// of the driver, so that is waited for.
    PrefetchThread,
    /// The queue of a device. Held around `vkQueueSubmit` and `vkQueueWaitIdle`.
    Queue,
    /// Command buffers in flight, and how far the queue is. After the queue, where a submission gets its number;
    /// the driver is asked under it.
    Submissions,
    /// What was submitted to a simulated device. Held while its commands are carried out.
    SimulatedSubmissions,

    // ---- The interpreter ----------------------------------------------------------------------------

    /// The lock of a program around the calls of this library: Python's GIL.
    Interpreter,

    // ---- Short: no driver, no Python code, no wait for the interpreter ------------------------------

    /// All open allocators of the process. Before the lists of each.
    OpenAllocators,
    /// What an allocator gave out and that has not ended. Before what waits for its frame: both are counted
    /// together.
    Live,
    /// What waits for the frames in flight.
    Waiting,
    /// Which thread closes an allocator.
    Closing,
    /// Threads inside of a sample. Alone.
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
    /// User data of a resource, or of the allocations of a virtual block. Before the owner of the memory, with
    /// which a resource lets go of them.
    UserData,
    /// The Python object in whose memory another one lies.
    MemoryOwner,
    /// The Python object that a pool's `memory_allocate_next` points into. Alone.
    PoolNext,
    /// A callback of the program. Alone: it runs without the lock.
    Callback,
    /// Threads inside of `on_out_of_memory`. Alone.
    Handling,
    /// How many views a mapping has. Alone.
    MappingViews,
    /// The view that a mapping gave out. Alone.
    MappingView,
    /// What receives the events of an allocator. Alone: a copy is walked through.
    Listeners,
    /// What `vk_mem.statistics` counted. Alone.
    WatchRows,
    /// Call sites. Alone.
    CallSites,
    /// One virtual block, or many as one. Alone.
    VirtualBlock,
    /// The custom pools of an allocator. Before what is in them.
    Pools,
    /// The blocks of one pool. Before the budgets, which say how large the next one may be.
    Arena,
    /// The dedicated allocations of one memory type.
    Dedicated,
    /// Pools that run low. Alone.
    PrefetchQueue,
    /// Names of allocations. After all that leads to an allocation.
    Names,
    /// Maps beyond those that a region counts. After all that leads to an allocation.
    MoreMaps,
    /// Events of memory objects that nobody was told yet.
    MemoryEvents,
    /// What the driver said last of a heap. After the arena that asks how much room there is.
    HeapReport,
    /// Which images a device can have. Alone: the driver is asked without the lock.
    ImageFormats,
    /// Planes of disjoint images. Alone.
    DisjointImages,
    /// What was exported by simulated devices. Before the objects, which an import looks at.
    SimulatedExports,
    /// Buffers and images of a simulated device. Before the memory that they are bound to.
    SimulatedResources,
    /// Where a simulated device has its budget from. Before the objects that are counted for it.
    SimulatedBudget,
    /// Memory objects of a simulated device.
    SimulatedObjects,
    /// The store of a simulated memory object, which is made when it is first needed.
    SimulatedStore,
    /// The bytes in it. One store at a time: copies go through a buffer.
    SimulatedBytes,
    /// Counts, failures and log of a simulated device: each call begins there.
    SimulatedCalls,
    /// Breaches that a simulated device saw: noted wherever they are found.
    SimulatedViolations,
    /// Messages of the validation layer. Last: the driver calls back from anywhere.
    ValidationMessages,
}

/// What a thread holds, in checked builds.
#[cfg(any(debug_assertions, feature = "validate"))]
mod held {
    use std::cell::Cell;
    use std::sync::OnceLock;

    use super::{NAMES, Rank, rank};

    thread_local! {
        /// How many of each rank: guards may be dropped in any order, and counting takes no host memory.
        static COUNTS: [Cell<u32>; NAMES.len()] = const { [const { Cell::new(0) }; NAMES.len()] };
        /// The highest address of each rank since the thread held none of it.
        static ADDRESSES: [Cell<usize>; NAMES.len()] = const { [const { Cell::new(0) }; NAMES.len()] };
    }

    static HAS_INTERPRETER: OnceLock<fn() -> bool> = OnceLock::new();

    pub fn ask_interpreter_by(has: fn() -> bool) {
        HAS_INTERPRETER.get_or_init(|| has);
    }

    fn highest() -> Option<usize> {
        COUNTS.with(|counts| counts.iter().rposition(|it| it.get() > 0))
    }

    #[cold]
    #[track_caller]
    fn wrong(taken: usize, held: usize, why: &str) {
        // A second panic would end the process before anybody reads the first.
        if !std::thread::panicking() {
            panic!(
                "the lock {} is taken by a thread that holds {}: {why}",
                NAMES[taken], NAMES[held]
            );
        }
    }

    /// Whether this thread may wait for a lock.
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
        if number < rank::Interpreter::NUMBER && HAS_INTERPRETER.get().is_some_and(|has| has()) {
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

/// Nothing at all.
#[cfg(not(any(debug_assertions, feature = "validate")))]
mod held {
    use super::Rank;

    #[inline(always)]
    pub fn ask_interpreter_by(_: fn() -> bool) {}

    #[inline(always)]
    pub fn check<R: Rank>(_: Option<usize>) {}
}

/// How checked builds find out whether a thread has the interpreter. The first one counts.
#[inline(always)]
pub fn ask_interpreter_by(has: fn() -> bool) {
    held::ask_interpreter_by(has);
}

/// To be called before something is waited for that is no lock of this file, and before code of others runs
/// that may wait for it: the interpreter.
///
/// # Panics
/// In checked builds, if this thread holds what comes after it.
#[inline(always)]
#[cfg_attr(any(debug_assertions, feature = "validate"), track_caller)]
pub fn check<R: Rank>() {
    held::check::<R>(None);
}

/// The record of one guard. Takes no room.
struct Held<R: Rank>(PhantomData<fn() -> R>);

impl<R: Rank> Held<R> {
    /// Notes that a lock was taken.
    #[inline(always)]
    fn new<L>(lock: &L) -> Self {
        #[cfg(any(debug_assertions, feature = "validate"))]
        held::add::<R>(std::ptr::from_ref(lock).addr());
        let _ = lock;
        Self(PhantomData)
    }
}

#[cfg(any(debug_assertions, feature = "validate"))]
impl<R: Rank> Drop for Held<R> {
    fn drop(&mut self) {
        held::remove::<R>();
    }
}

macro_rules! guard {
    ($(#[doc = $doc:literal])+ $name:ident) => {
        $(#[doc = $doc])+
        #[repr(transparent)]
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
    /// An [`RwLock`] that is shared.
    RwLockReadGuard
}
guard! {
    /// An [`RwLock`] that one thread has alone.
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
            /// Not locked.
            #[inline(always)]
            pub const fn new(value: T) -> Self {
                Self { lock: parking_lot::$name::new(value), rank: PhantomData }
            }

            /// What it guards, for who has the lock itself alone.
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
    /// A lock with a rank that many may share, or one has alone.
    RwLock
}
lock! {
    /// A mutex with a rank that its thread may lock again, and which is taken together with others of that rank.
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
    /// Waits until nobody else has it.
    Mutex, lock -> MutexGuard
}
take! {
    /// Takes it if nobody has it.
    Mutex, try_lock -> try MutexGuard
}
take! {
    /// Waits until nobody has it alone.
    RwLock, read -> RwLockReadGuard
}
take! {
    /// Waits until nobody has it alone, but not for those who wait for that.
    RwLock, read_recursive -> RwLockReadGuard
}
take! {
    /// Takes it unless somebody has it alone.
    RwLock, try_read_recursive -> try RwLockReadGuard
}
take! {
    /// Waits until nobody else has it.
    RwLock, write -> RwLockWriteGuard
}

impl<T, R: Rank> ReentrantMutex<T, R> {
    /// Waits until no other thread has it.
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

/// Where threads wait for what a [`Mutex`] guards to change.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Condvar(parking_lot::Condvar);

impl Condvar {
    /// Nobody waits.
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

    /// Waits as [`wait`](Self::wait) does, at most until `end`. Returns false if that has come.
    #[inline(always)]
    #[cfg_attr(any(debug_assertions, feature = "validate"), track_caller)]
    pub fn wait_until<T, R: Rank>(&self, guard: &mut MutexGuard<'_, T, R>, end: Instant) -> bool {
        let _away = Away::<R>::begin();
        !self.0.wait_until(&mut guard.guard, end).timed_out()
    }

    /// Wakes one.
    #[inline(always)]
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all.
    #[inline(always)]
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A lock that a wait gives away. Counted again when this is dropped, even by a panic: the guard is dropped
/// then.
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

const _: () = {
    use std::mem::size_of;
    type R = rank::Arena;
    // A rank takes no room, neither in a lock nor in a guard.
    assert!(size_of::<Mutex<u64, R>>() == size_of::<parking_lot::Mutex<u64>>());
    assert!(size_of::<RwLock<u64, R>>() == size_of::<parking_lot::RwLock<u64>>());
    assert!(size_of::<ReentrantMutex<u64, R>>() == size_of::<parking_lot::ReentrantMutex<u64>>());
    assert!(size_of::<Condvar>() == size_of::<parking_lot::Condvar>());
    assert!(size_of::<MutexGuard<u64, R>>() == size_of::<parking_lot::MutexGuard<u64>>());
    // And nothing is done for it where it is not checked.
    assert!(
        cfg!(any(debug_assertions, feature = "validate")) || !std::mem::needs_drop::<Held<R>>()
    );
};

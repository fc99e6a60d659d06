//! Reference-counted pointers to a resource.
//!
//! Like `Arc` and `Weak`, with two differences: the [list of live resources](super::live) refers to a
//! resource without being counted, and each thread keeps the memory of ended resources in a free list, last
//! in, first out, as that memory is in the cache.

use std::cell::RefCell;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use vkmem_vulkan::prefetch_bytes;

/// Maximum length of the free list of a thread: 170 KiB.
const MOST_SPARES: usize = 1024;

/// A resource and its reference counts.
#[repr(C)]
pub struct Counted<T: Owned> {
    /// Number of [`StrongRef`].
    strong: AtomicUsize,
    /// Number of [`WeakRef`], plus 1 while there is a [`StrongRef`].
    weak: AtomicUsize,
    /// Initialised while `strong` is not 0.
    resource: ManuallyDrop<T>,
}

/// Memory of an ended resource, for a new one.
pub type Spare<T> = Box<MaybeUninit<Counted<T>>>;

/// A type that [`StrongRef`] can own.
pub trait Owned: Sized + Send + Sync {
    /// Returns whether the list of live resources has an entry of it.
    fn is_listed(&self) -> bool;

    /// Called once, after the last [`StrongRef`] was dropped. Removes it from the list of live resources,
    /// except in the child of a fork.
    fn last_reference_dropped(&self);

    /// Calls a function with this thread's free list; `None` while the thread exits.
    fn with_spares<R>(look: impl FnOnce(&RefCell<Vec<Spare<Self>>>) -> R) -> Option<R>;
}

/// Keeps a resource alive.
pub struct StrongRef<T: Owned>(NonNull<Counted<T>>);

/// A weak reference to a resource.
pub struct WeakRef<T: Owned>(NonNull<Counted<T>>);

/// An uncounted reference in the list of live resources, removed before the resource ends.
pub struct ListedRef<T: Owned>(NonNull<Counted<T>>);

impl<T: Owned> Clone for ListedRef<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Owned> Copy for ListedRef<T> {}

// SAFETY: the counts are atomic, and a resource may be used and ended by any thread.
unsafe impl<T: Owned> Send for StrongRef<T> {}
// SAFETY: the counts are atomic, and a resource may be used and ended by any thread.
unsafe impl<T: Owned> Sync for StrongRef<T> {}
// SAFETY: the counts are atomic, and a resource may be used and ended by any thread.
unsafe impl<T: Owned> Send for WeakRef<T> {}
// SAFETY: the counts are atomic, and a resource may be used and ended by any thread.
unsafe impl<T: Owned> Sync for WeakRef<T> {}
// SAFETY: the counts are atomic, and a resource may be used and ended by any thread; dereferencing a
// `ListedRef` is `unsafe` by itself.
unsafe impl<T: Owned> Send for ListedRef<T> {}

impl<T: Owned> StrongRef<T> {
    /// Creates the first reference to a resource.
    #[inline(always)]
    pub fn new(resource: T) -> Self {
        let resource = ManuallyDrop::new(resource);
        let (strong, weak) = (AtomicUsize::new(1), AtomicUsize::new(1));
        let spare = T::with_spares(|spares| spares.borrow_mut().pop()).flatten();
        let spare = spare.unwrap_or_else(Box::new_uninit);
        let counted = Box::write(spare, Counted { strong, weak, resource });
        Self(NonNull::from(Box::leak(counted)))
    }

    #[inline]
    fn counted(&self) -> &Counted<T> {
        // SAFETY: a `StrongRef` is counted, so the resource is initialised.
        unsafe { self.0.as_ref() }
    }

    /// Returns the address, for identity comparison only.
    #[inline]
    pub fn as_ptr(&self) -> *const T {
        &raw const **self
    }

    /// Prefetches the resource, before the first atomic read-modify-write of its end stalls the pipeline. All
    /// of it, as the next resource is written to the same memory.
    #[inline]
    pub fn expect(&self) {
        prefetch_bytes(self.0.addr().get() as u64, size_of::<Counted<T>>() as u64);
    }

    /// Returns whether both refer to the same resource.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// Returns a weak reference.
    pub fn downgrade(&self) -> WeakRef<T> {
        self.counted().weak.fetch_add(1, Ordering::Relaxed);
        WeakRef(self.0)
    }

    /// Returns the entry for the list of live resources.
    #[inline]
    pub fn listed(&self) -> ListedRef<T> {
        ListedRef(self.0)
    }

    /// Returns whether this is the only reference and no other thread can get one; then no atomic
    /// read-modify-write is needed.
    #[inline]
    fn is_alone(&self) -> bool {
        // Order matters: a `ListedRef` or `WeakRef` upgrades before it is dropped.
        let counted = self.counted();
        !counted.resource.is_listed()
            && counted.weak.load(Ordering::Acquire) == 1
            && counted.strong.load(Ordering::Acquire) == 1
    }
}

impl<T: Owned> Clone for StrongRef<T> {
    #[inline]
    fn clone(&self) -> Self {
        self.counted().strong.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl<T: Owned> Deref for StrongRef<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.counted().resource
    }
}

impl<T: Owned> Drop for StrongRef<T> {
    #[inline]
    fn drop(&mut self) {
        if self.is_alone() {
            self.counted().strong.store(0, Ordering::Relaxed);
        } else if self.counted().strong.fetch_sub(1, Ordering::Release) != 1 {
            return;
        } else {
            fence(Ordering::Acquire);
        }
        // SAFETY: the strong count has just become 0.
        unsafe { end(self.0) };
    }
}

/// Drops a resource and releases its memory.
///
/// # Safety
/// To be called once, after the strong count has become 0.
unsafe fn end<T: Owned>(counted: NonNull<Counted<T>>) {
    // SAFETY: all strong references together count as one weak reference, which is dropped below.
    let resource = unsafe { &(*counted.as_ptr()).resource };
    resource.last_reference_dropped();
    let is_listed = resource.is_listed();
    // SAFETY: the caller guarantees that this is the only call, and a `ListedRef` only reads the counts.
    unsafe { ManuallyDrop::drop(&mut (*counted.as_ptr()).resource) };
    // In the child of a fork the list may be locked for ever. Then the resource is still listed, and its
    // counts stay valid.
    if !is_listed {
        drop(WeakRef(counted));
    }
}

impl<T: Owned> WeakRef<T> {
    /// Returns a strong reference, if the resource has not ended.
    pub fn upgrade(&self) -> Option<StrongRef<T>> {
        // SAFETY: a `WeakRef` is counted, so the counts are valid.
        unsafe { upgrade(self.0) }
    }

    /// Returns the address, for identity comparison only.
    pub fn as_ptr(&self) -> *const T {
        // SAFETY: a `WeakRef` is counted, so the memory is valid; the resource itself is not read.
        unsafe { (&raw const (*self.0.as_ptr()).resource).cast() }
    }
}

impl<T: Owned> Drop for WeakRef<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: a `WeakRef` is counted, so the counts are valid.
        let weak = unsafe { &(*self.0.as_ptr()).weak };
        // A count of 1 is final: a new `WeakRef` would have to be made from this one or from a `StrongRef`.
        if weak.load(Ordering::Acquire) != 1 && weak.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        // SAFETY: allocated as a box in `StrongRef::new`; the resource has ended, and this was the last
        // reference.
        let memory: Spare<T> = unsafe { Box::from_raw(self.0.as_ptr().cast()) };
        // A full free list, or one of a thread that exits, drops the memory.
        let _ = T::with_spares(|spares| {
            let mut spares = spares.borrow_mut();
            if spares.len() < MOST_SPARES {
                spares.push(memory);
            }
        });
    }
}

impl<T: Owned> ListedRef<T> {
    /// Returns whether it refers to `resource`, whose fields are not read; for checks.
    pub fn is(self, resource: &T) -> bool {
        // SAFETY: computes an address inside memory that is valid until the entry is removed from the list.
        let seen = unsafe { &raw const (*self.0.as_ptr()).resource };
        std::ptr::eq(seen.cast(), resource)
    }

    /// Returns a strong reference, if the resource has one.
    ///
    /// # Safety
    /// The entry is on the list, and is not removed during the call.
    pub unsafe fn upgrade(self) -> Option<StrongRef<T>> {
        // SAFETY: the entry is removed before the resource ends, so the counts are valid.
        unsafe { upgrade(self.0) }
    }
}

/// Returns a new strong reference, unless the strong count is 0.
///
/// # Safety
/// The counts are valid.
unsafe fn upgrade<T: Owned>(counted: NonNull<Counted<T>>) -> Option<StrongRef<T>> {
    // SAFETY: the caller guarantees that the counts are valid.
    let strong = unsafe { &(*counted.as_ptr()).strong };
    let more = |count: usize| (count != 0).then(|| count + 1);
    strong.fetch_update(Ordering::Acquire, Ordering::Relaxed, more).ok()?;
    Some(StrongRef(counted))
}

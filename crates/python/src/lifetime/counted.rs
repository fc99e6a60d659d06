//! References to a resource, counted.
//!
//! As `Arc` and `Weak`, but that the [list of live things](super::live) looks at a resource without being
//! counted, and that the memory of those that ended is used again by the next ones of the thread: of the
//! last one first, as it is in the cache then.

use std::cell::RefCell;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use vkmem_vulkan::prefetch_bytes;

/// So many that ended leave their memory to the next ones: 170 KiB a thread at most.
const MOST_SPARES: usize = 1024;

/// A resource and who refers to it.
#[repr(C)]
pub struct Counted<T: Owned> {
    /// How many [`StrongRef`] there are.
    strong: AtomicUsize,
    /// How many [`WeakRef`] there are; all [`StrongRef`] together are one more.
    weak: AtomicUsize,
    /// There while `strong` is not 0.
    resource: ManuallyDrop<T>,
}

/// Memory for a resource.
pub type Spare<T> = Box<MaybeUninit<Counted<T>>>;

/// What references can be counted of.
pub trait Owned: Sized + Send + Sync {
    /// Whether the list of live things knows it.
    fn is_listed(&self) -> bool;

    /// Called once, when nothing keeps it alive any more. It is on no list after that, unless the
    /// process came out of a fork.
    fn last_reference_dropped(&self);

    /// The memory that this thread keeps for the next ones; `None` at the end of the thread.
    fn with_spares<R>(look: impl FnOnce(&RefCell<Vec<Spare<Self>>>) -> R) -> Option<R>;
}

/// Keeps a resource alive.
pub struct StrongRef<T: Owned>(NonNull<Counted<T>>);

/// Knows a resource and does not keep it alive.
pub struct WeakRef<T: Owned>(NonNull<Counted<T>>);

/// A resource as the list of live things knows it: it is taken off before it ends.
pub struct ListedRef<T: Owned>(NonNull<Counted<T>>);

impl<T: Owned> Clone for ListedRef<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Owned> Copy for ListedRef<T> {}

// SAFETY: the counts are atomic, and a resource may be used and ended by any thread.
unsafe impl<T: Owned> Send for StrongRef<T> {}
// SAFETY: as above.
unsafe impl<T: Owned> Sync for StrongRef<T> {}
// SAFETY: as above.
unsafe impl<T: Owned> Send for WeakRef<T> {}
// SAFETY: as above.
unsafe impl<T: Owned> Sync for WeakRef<T> {}
// SAFETY: as above; and what it can do is `unsafe` by itself.
unsafe impl<T: Owned> Send for ListedRef<T> {}

impl<T: Owned> StrongRef<T> {
    /// The first one of a resource.
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
        // SAFETY: this one is counted, so it is there.
        unsafe { self.0.as_ref() }
    }

    /// For looks that come to nothing but the same resource.
    #[inline]
    pub fn as_ptr(&self) -> *const T {
        &raw const **self
    }

    /// Says that it is about to end, before the first locked instruction holds up the rest. All of it, as
    /// the next resource is written there.
    #[inline]
    pub fn expect(&self) {
        prefetch_bytes(self.0.addr().get() as u64, size_of::<Counted<T>>() as u64);
    }

    /// Whether both are of one resource.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// For who must not keep it alive.
    pub fn downgrade(&self) -> WeakRef<T> {
        self.counted().weak.fetch_add(1, Ordering::Relaxed);
        WeakRef(self.0)
    }

    /// For the list of live things.
    #[inline]
    pub fn listed(&self) -> ListedRef<T> {
        ListedRef(self.0)
    }

    /// Whether no other thread can come to a reference: then there is nothing to count down.
    #[inline]
    fn is_alone(&self) -> bool {
        // In this order: who is seen or faint becomes a strong one before it goes.
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
        // SAFETY: the count came to 0 just now.
        unsafe { end(self.0) };
    }
}

/// Ends a resource that nothing keeps alive any more.
///
/// # Safety
/// Once only, when its strong count has come to 0.
unsafe fn end<T: Owned>(counted: NonNull<Counted<T>>) {
    // SAFETY: all strong ones together are counted as a weak one, which is given up below.
    let resource = unsafe { &(*counted.as_ptr()).resource };
    resource.last_reference_dropped();
    let is_listed = resource.is_listed();
    // SAFETY: of the caller, and who comes to it by the list looks at the counts alone.
    unsafe { ManuallyDrop::drop(&mut (*counted.as_ptr()).resource) };
    // Else it came out of a fork, where the list may be locked for ever: the counts stay where the list
    // finds them.
    if !is_listed {
        drop(WeakRef(counted));
    }
}

impl<T: Owned> WeakRef<T> {
    /// The resource, if something keeps it alive.
    pub fn upgrade(&self) -> Option<StrongRef<T>> {
        // SAFETY: this one is counted, so the counts are there.
        unsafe { upgrade(self.0) }
    }

    /// For looks that come to nothing but the same resource.
    pub fn as_ptr(&self) -> *const T {
        // SAFETY: as above; the resource itself is not looked at.
        unsafe { (&raw const (*self.0.as_ptr()).resource).cast() }
    }
}

impl<T: Owned> Drop for WeakRef<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this one is counted, so the counts are there.
        let weak = unsafe { &(*self.0.as_ptr()).weak };
        // Who sees itself as the last one is: another would have to come from it, or from a strong one.
        if weak.load(Ordering::Acquire) != 1 && weak.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        // SAFETY: made as a box in `StrongRef::new`; the resource is gone, and so is all that knew of it.
        let memory: Spare<T> = unsafe { Box::from_raw(self.0.as_ptr().cast()) };
        // None where there are enough, and none at the end of a thread: then it is given back.
        let _ = T::with_spares(|spares| {
            let mut spares = spares.borrow_mut();
            if spares.len() < MOST_SPARES {
                spares.push(memory);
            }
        });
    }
}

impl<T: Owned> ListedRef<T> {
    /// For checks: whether it is a resource. The resource is not looked at.
    pub fn is(self, resource: &T) -> bool {
        // SAFETY: an address alone, within what is there until it was taken off the list.
        let seen = unsafe { &raw const (*self.0.as_ptr()).resource };
        std::ptr::eq(seen.cast(), resource)
    }

    /// The resource, if something keeps it alive.
    ///
    /// # Safety
    /// It is on the list, and will not be taken off meanwhile.
    pub unsafe fn upgrade(self) -> Option<StrongRef<T>> {
        // SAFETY: it is taken off before it ends.
        unsafe { upgrade(self.0) }
    }
}

/// One more strong one, unless there is none.
///
/// # Safety
/// The counts are there.
unsafe fn upgrade<T: Owned>(counted: NonNull<Counted<T>>) -> Option<StrongRef<T>> {
    // SAFETY: of the caller.
    let strong = unsafe { &(*counted.as_ptr()).strong };
    let more = |count: usize| (count != 0).then(|| count + 1);
    strong.fetch_update(Ordering::Acquire, Ordering::Relaxed, more).ok()?;
    Some(StrongRef(counted))
}

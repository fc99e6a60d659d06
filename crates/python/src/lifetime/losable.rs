//! What a resource has that may be lost (`CAN_BECOME_LOST`), and what its allocator has for that.

use std::cell::UnsafeCell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use vkmem_engine::Evictable;
use vkmem_engine::lock::{Mutex, rank};

use super::counted::{Owned, WeakRef};
use super::table::Table;
use crate::process::forks::Process;

/// The engine's entry of a resource.
///
/// It is written by a thread that holds the GIL, or that has the last reference to the resource, and read by
/// threads that hold the GIL: so touching a resource needs no lock.
struct Entry(UnsafeCell<Option<Evictable>>);

// SAFETY: see the type: a write excludes all reads.
unsafe impl Sync for Entry {}

impl Entry {
    fn get(&self, _: Python<'_>) -> Option<&Evictable> {
        // SAFETY: the rules of the type exclude a write meanwhile, as no reference outlives the use of the GIL.
        unsafe { (*self.0.get()).as_ref() }
    }

    /// # Safety
    /// The thread holds the GIL, or has the last reference to the resource.
    unsafe fn replace(&self, entry: Option<Evictable>) -> Option<Evictable> {
        // SAFETY: the caller excludes all other uses.
        unsafe { std::mem::replace(&mut *self.0.get(), entry) }
    }
}

/// What a resource has that may be lost.
pub struct Losable {
    entry: Entry,
    is_lost: AtomicBool,
    priority: f32,
    /// The process in which the entry may be ended.
    process: Process,
    /// A weak reference to the `Buffer`, the `Image` or the `Allocation`.
    pub object: OnceLock<Py<PyAny>>,
}

impl Losable {
    /// Without an entry yet.
    pub fn new(priority: f32) -> Self {
        Self {
            entry: Entry(UnsafeCell::new(None)),
            is_lost: AtomicBool::new(false),
            priority,
            process: Process::current(),
            object: OnceLock::new(),
        }
    }

    /// One that is lost from the start.
    pub fn lost() -> Self {
        let made = Self::new(0.0);
        made.is_lost.store(true, Ordering::Relaxed);
        made
    }

    /// Notes a use of the resource in this frame; false if it is lost.
    #[inline]
    pub fn touch(&self, py: Python<'_>) -> bool {
        self.entry.get(py).map_or_else(|| !self.is_lost(), Evictable::touch)
    }

    /// Whether a use in this frame is noted already: then a touch changes nothing.
    #[inline]
    pub fn is_used_now(&self, py: Python<'_>) -> bool {
        self.entry.get(py).is_some_and(Evictable::is_used_now)
    }

    /// The frame of its last use, as long as it may be lost.
    pub fn last_use(&self, py: Python<'_>) -> Option<u64> {
        self.entry.get(py).filter(|_| !self.is_lost()).map(Evictable::last_use)
    }

    /// Whether it was lost.
    #[inline]
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Notes that it is lost. The engine's entry stays until its object ends.
    pub(super) fn set_lost(&self, _: Python<'_>) {
        self.is_lost.store(true, Ordering::Relaxed);
    }

    /// The priority among what may be lost.
    pub(super) fn priority(&self) -> f32 {
        self.priority
    }

    /// The engine's entry; `None` before it is there, and after the end.
    pub(super) fn entry(&self, py: Python<'_>) -> Option<&Evictable> {
        self.entry.get(py)
    }

    /// Replaces the engine's entry, and ends the one before.
    pub(super) fn set_entry(&self, _: Python<'_>, entry: Option<Evictable>) {
        // SAFETY: the GIL is here.
        drop(unsafe { self.entry.replace(entry) });
    }

    /// Ends the engine's entry: from then on it cannot be lost, and is not counted as lost.
    ///
    /// # Safety
    /// The thread holds the GIL, or has the last reference to the resource.
    pub(super) unsafe fn end(&self) {
        // SAFETY: as the caller guarantees.
        drop(unsafe { self.entry.replace(None) });
    }
}

impl Drop for Losable {
    fn drop(&mut self) {
        // The child of a fork may find the locks of the engine held for ever.
        if !self.process.is_this() {
            std::mem::forget(self.entry.0.get_mut().take());
        }
    }
}

/// What an allocator has whose resources may be lost.
pub struct Losing<T: Owned> {
    /// Those that may be lost, by their memory.
    pub(super) table: Table<T>,
    /// Those that were lost, until their callbacks are called.
    pub(super) lost: Mutex<Vec<WeakRef<T>>, rank::Lost>,
}

impl<T: Owned> Default for Losing<T> {
    fn default() -> Self {
        Self { table: Table::default(), lost: Mutex::default() }
    }
}

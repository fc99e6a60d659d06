//! What a resource has that may be lost (`CAN_BECOME_LOST`).

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use vkmem_engine::{Allocation, Evictable};

use super::ownership::{AllocatorState, Resource, ResourceRef};
use crate::errors::IntoPyResult;

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
    /// After the entry, which is of it.
    allocator: Arc<AllocatorState>,
    /// A weak reference to the `Buffer`, the `Image` or the `Allocation`.
    pub object: OnceLock<Py<PyAny>>,
}

impl Losable {
    /// Without an entry yet.
    pub fn new(allocator: &Arc<AllocatorState>, priority: f32) -> Self {
        Self {
            entry: Entry(UnsafeCell::new(None)),
            is_lost: AtomicBool::new(false),
            priority,
            allocator: allocator.clone(),
            object: OnceLock::new(),
        }
    }

    /// One that is lost from the start.
    pub fn lost(allocator: &Arc<AllocatorState>) -> Self {
        let made = Self::new(allocator, 0.0);
        made.is_lost.store(true, Ordering::Relaxed);
        made
    }

    /// Notes a use of the resource in this frame; false if it is lost.
    #[inline]
    pub fn touch(&self, py: Python<'_>) -> bool {
        self.entry.get(py).map_or_else(|| !self.is_lost(), Evictable::touch)
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

    /// Tells the engine where it is after a move. If the engine cannot know that, it is not lost any more.
    pub(super) fn relocated(&self, py: Python<'_>, place: &Allocation) {
        let Some(entry) = self.entry.get(py) else { return };
        if entry.relocated(place).is_err() {
            let anew = self.allocator.engine().make_evictable(place, self.priority).ok();
            // SAFETY: the GIL is here.
            drop(unsafe { self.entry.replace(anew) });
        }
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
        if self.allocator.device.is_forked() {
            std::mem::forget(self.entry.0.get_mut().take());
        }
    }
}

impl Resource {
    /// What it has if it may be lost.
    #[inline]
    pub fn losable(&self) -> Option<&Losable> {
        self.extras.get()?.losable.get().map(|it| &**it)
    }

    /// Whether its memory was taken away.
    pub fn is_lost(&self) -> bool {
        self.losable().is_some_and(Losable::is_lost)
    }

    /// Notes a use in this frame; false if it is lost. Whatever cannot be lost is there.
    #[inline]
    pub fn touch(&self, py: Python<'_>) -> bool {
        self.losable().is_none_or(|it| it.touch(py))
    }

    /// Notes a use in this frame; false if it is lost. Raises if it was ended.
    #[inline]
    pub fn try_touch(&self, py: Python<'_>) -> PyResult<bool> {
        let is_there = self.touch(py);
        if is_there {
            self.check_live(py)?;
        }
        Ok(is_there)
    }

    /// Frees the engine's entry of what was lost; does nothing for any other resource that has ended.
    #[cold]
    pub(super) fn forget_loss(&self, _: Python<'_>) {
        if let Some(losable) = self.losable() {
            // SAFETY: the GIL is here.
            unsafe { losable.end() };
        }
    }

    /// Raises if it has ended, and notes a use in this frame: what is returned then is for commands that are
    /// recorded now.
    pub fn check_used(&self, py: Python<'_>) -> PyResult<()> {
        self.check_live(py)?;
        self.touch(py);
        Ok(())
    }
}

impl ResourceRef {
    /// Lets a new resource be lost from now on.
    pub fn set_losable(&self, py: Python<'_>, priority: f32, object: Py<PyAny>) -> PyResult<()> {
        let allocator = &self.allocator;
        allocator.losing(|it| it.enter(self, None));
        let made =
            self.extras().losable.get_or_init(|| Box::new(Losable::new(allocator, priority)));
        made.object.get_or_init(|| object);
        let entry = allocator.engine().make_evictable(&self.allocation(), priority).or_raise(py)?;
        // SAFETY: the GIL is here.
        unsafe { made.entry.replace(Some(entry)) };
        Ok(())
    }
}

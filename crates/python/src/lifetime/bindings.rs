//! The memory that the buffers and images of a device are bound to, so that none is bound twice.

use std::collections::{HashMap, TryReserveError};
use std::sync::atomic::{AtomicBool, Ordering};
use vkmem_vulkan::ResourceHandle;

use vkmem_engine::lock::{Mutex, MutexGuard, rank};

use crate::interpreter::wait_without_gil;

/// The memory of a buffer or an image.
pub enum Binding<H> {
    /// The memory it was created with.
    Own,
    /// No memory yet: created with `DONT_BIND`.
    Unbound,
    /// The memory of another allocation, which is kept alive.
    Foreign(H),
}

/// The bindings of a device, shared by its allocators, as memory of one can be bound to a resource of
/// another.
///
/// The table stays empty in most programs: resources that are bound at creation are added only when a handle
/// is bound that is not in the table. Then all live resources are added, and every new one from that moment
/// on.
pub struct Bindings<H> {
    known: Mutex<HashMap<ResourceHandle, Binding<H>>, rank::Bindings>,
    /// Whether the table has, or had, an entry.
    is_used: AtomicBool,
    /// Whether every live resource is in the table. Set before the lists of live resources are walked, and
    /// read under the lock of such a list or after it, so that no resource is missed.
    is_complete: AtomicBool,
}

impl<H> Binding<H> {
    /// Returns the binding of a new resource.
    pub fn of_new(dont_bind: bool) -> Self {
        if dont_bind { Self::Unbound } else { Self::Own }
    }
}

impl<H> Default for Bindings<H> {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            is_used: AtomicBool::new(false),
            is_complete: AtomicBool::new(false),
        }
    }
}

impl<H: Send> Bindings<H> {
    /// Locks the table. The thread that holds the lock may be in a driver call, which may run Python code of
    /// a loader or of callbacks, so the GIL is released while waiting.
    pub fn lock(&self) -> MutexGuard<'_, HashMap<ResourceHandle, Binding<H>>, rank::Bindings> {
        loop {
            if let Some(guard) = self.known.try_lock() {
                return guard;
            }
            wait_without_gil(&mut || drop(self.known.lock()));
        }
    }

    /// Adds new resources if that is needed. `resources` gives the handles of each and whether it was created
    /// with `DONT_BIND`; `is_complete` is the result of [`Self::is_complete`] under the lock of their list.
    pub fn enter(
        &self,
        resources: impl ExactSizeIterator<Item = (ResourceHandle, bool)> + Clone,
        is_complete: bool,
    ) -> Result<(), TryReserveError> {
        let unbound = resources.clone().any(|(_, dont_bind)| dont_bind);
        if !is_complete && !unbound {
            return Ok(());
        }
        self.is_used.store(true, Ordering::Release);
        let mut known = self.lock();
        known.try_reserve(resources.len())?;
        for (handles, dont_bind) in resources.filter(|(it, _)| *it != ResourceHandle::Memory) {
            known.insert(handles, Binding::of_new(dont_bind));
        }
        Ok(())
    }

    /// Removes and returns the binding of a resource that ends, before the driver can reuse its handle.
    #[inline]
    pub fn remove(&self, handles: ResourceHandle) -> Option<Binding<H>> {
        if handles == ResourceHandle::Memory || !self.is_used.load(Ordering::Acquire) {
            return None;
        }
        self.lock().remove(&handles)
    }

    /// Removes the bindings of many resources; returns those to memory of other allocations.
    pub fn remove_many(&self, handles: impl Iterator<Item = ResourceHandle>) -> Vec<Binding<H>> {
        if !self.is_used.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut known = self.lock();
        let removed = handles.filter_map(|it| known.remove(&it));
        removed.filter(|it| matches!(it, Binding::Foreign(_))).collect()
    }

    /// Returns whether new resources have to be added; to be called under the lock of the list of live ones.
    #[inline]
    pub fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Acquire)
    }

    /// Makes every new resource be added from now on. To be called before the live ones are added.
    pub fn set_complete(&self) {
        self.is_used.store(true, Ordering::Release);
        self.is_complete.store(true, Ordering::Release);
    }

    /// Undoes [`set_complete`](Self::set_complete): the next bind of an unknown handle walks all live
    /// resources again.
    pub fn set_incomplete(&self) {
        self.is_complete.store(false, Ordering::Release);
    }
}

//! Which memory the buffers and images of a device are bound to, so that none is bound twice.

use std::collections::{HashMap, TryReserveError};
use std::sync::atomic::{AtomicBool, Ordering};
use vkmem_vulkan::ResourceHandle;

use vkmem_engine::lock::{Mutex, MutexGuard, rank};

use crate::interpreter::wait_without_interpreter;

/// What memory a buffer or an image has.
pub enum Binding<H> {
    /// That which it was created with.
    Own,
    /// None yet: DONT_BIND.
    Unbound,
    /// That of another allocation, which must stay.
    Foreign(H),
}

/// The bindings of a device, of all its allocators: memory of one can be bound to a resource of
/// another.
///
/// Of most programs it stays empty: what is bound when it is created is only looked up when somebody
/// binds a handle that is not known here. Then all live resources are entered, and from that moment on
/// every new one.
pub struct Bindings<H> {
    known: Mutex<HashMap<ResourceHandle, Binding<H>>, rank::Bindings>,
    /// Something is or was in the table.
    is_used: AtomicBool,
    /// Everything that lives is in the table. Set before the lists of live things are looked through,
    /// and read under the lock of such a list or after it: so nothing is missed.
    is_complete: AtomicBool,
}

impl<H> Binding<H> {
    /// That of a new resource.
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
    /// The table. Who has it may be in a call of the driver, which may run Python code of a loader or of
    /// callbacks: so the interpreter is not kept while waiting.
    pub fn lock(&self) -> MutexGuard<'_, HashMap<ResourceHandle, Binding<H>>, rank::Bindings> {
        loop {
            if let Some(guard) = self.known.try_lock() {
                return guard;
            }
            wait_without_interpreter(&mut || drop(self.known.lock()));
        }
    }

    /// Enters new resources, where that is needed: the handles of each, and whether it was created with
    /// DONT_BIND. `is_complete` is what [`Self::is_complete`] said under the lock of their list.
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

    /// Takes one out that ends, before its handle is free to be given out again.
    #[inline]
    pub fn remove(&self, handles: ResourceHandle) -> Option<Binding<H>> {
        if handles == ResourceHandle::Memory || !self.is_used.load(Ordering::Acquire) {
            return None;
        }
        self.lock().remove(&handles)
    }

    /// Takes many out; what was bound to the memory of others comes back.
    pub fn remove_many(&self, handles: impl Iterator<Item = ResourceHandle>) -> Vec<Binding<H>> {
        if !self.is_used.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut known = self.lock();
        let removed = handles.filter_map(|it| known.remove(&it));
        removed.filter(|it| matches!(it, Binding::Foreign(_))).collect()
    }

    /// Whether new resources have to be entered; to be asked under the lock of the list of live ones.
    #[inline]
    pub fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Acquire)
    }

    /// From now on every new resource is entered. To be called before all that live are.
    pub fn set_complete(&self) {
        self.is_used.store(true, Ordering::Release);
        self.is_complete.store(true, Ordering::Release);
    }

    /// Undoes it: the next one to ask looks at everything once more.
    pub fn set_incomplete(&self) {
        self.is_complete.store(false, Ordering::Release);
    }
}

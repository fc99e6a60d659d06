//! Which memory the buffers and images of a device are bound to, so that none is bound twice.

use std::collections::{HashMap, TryReserveError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use vkmem_engine::Error;

use crate::lifetime::close::open_allocators;
use crate::lifetime::counted::Held;
use crate::lifetime::frames::{AllocatorState, wait_without_interpreter};
use crate::lifetime::ownership::{Handles, Resource};
use crate::objects::device::DeviceCore;

/// What memory a buffer or an image has.
pub enum Binding {
    /// That which it was created with.
    Own,
    /// None yet: DONT_BIND.
    Unbound,
    /// That of another allocation, which must stay.
    Foreign(Held),
}

/// The bindings of a device, of all its allocators: memory of one can be bound to a resource of
/// another.
///
/// Of most programs it stays empty: what is bound when it is created is only looked up when somebody
/// binds a handle that is not known here. Then all live resources are entered, and from that moment on
/// every new one.
#[derive(Default)]
pub struct Bindings {
    known: Mutex<HashMap<Handles, Binding>>,
    /// Something is or was in the table.
    is_used: AtomicBool,
    /// Everything that lives is in the table. Set before the lists of live things are looked through,
    /// and read under the lock of such a list or after it: so nothing is missed.
    is_complete: AtomicBool,
}

/// What a walk over live things has held on to. Dropped after the table is unlocked: the last reference
/// of a resource may be among them, and its end looks into the table.
pub type Kept = Vec<(Arc<AllocatorState>, Vec<Held>)>;

impl Bindings {
    /// The table. Who has it may be in a call of the driver, which may run Python code of a loader or of
    /// callbacks: so the interpreter is not kept while waiting.
    pub fn lock(&self) -> MutexGuard<'_, HashMap<Handles, Binding>> {
        loop {
            if let Some(guard) = self.known.try_lock() {
                return guard;
            }
            wait_without_interpreter(&|| drop(self.known.lock()));
        }
    }

    /// Enters new resources, where that is needed; `is_complete` is what [`Self::is_complete`] said
    /// under the lock of their list.
    pub fn enter(&self, resources: &[Held], is_complete: bool) -> Result<(), TryReserveError> {
        let unbound = resources.iter().any(|it| it.dont_bind);
        if !is_complete && !unbound {
            return Ok(());
        }
        self.is_used.store(true, Ordering::Release);
        let mut known = self.lock();
        known.try_reserve(resources.len())?;
        for resource in resources.iter().filter(|it| it.handles != Handles::Memory) {
            known.insert(resource.handles, of_new(resource));
        }
        Ok(())
    }

    /// Takes one out that ends, before its handle is free to be given out again.
    #[inline]
    pub fn remove(&self, handles: Handles) -> Option<Binding> {
        if handles == Handles::Memory || !self.is_used.load(Ordering::Acquire) {
            return None;
        }
        self.lock().remove(&handles)
    }

    /// Takes many out; what was bound to the memory of others comes back.
    pub fn remove_many(&self, handles: impl Iterator<Item = Handles>) -> Vec<Binding> {
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

    /// Enters all that lives on a device. O(live resources), once.
    #[cold]
    pub fn complete(
        &self,
        known: &mut HashMap<Handles, Binding>,
        device: &DeviceCore,
    ) -> Result<Kept, Error> {
        self.is_used.store(true, Ordering::Release);
        self.is_complete.store(true, Ordering::Release);
        let mut kept = Vec::new();
        for state in open_allocators() {
            let mut live = Vec::new();
            if std::ptr::eq(&*state.device, device) {
                let count = state.live.lock().len() + state.waiting().0;
                if known.try_reserve(count).is_err() {
                    // What is in the table is true; the next one to ask looks at everything once more.
                    self.is_complete.store(false, Ordering::Release);
                    return Err(Error::TooManyItems(count));
                }
                live = state.live.lock().all();
                for it in live.iter().filter(|it| it.handles != Handles::Memory) {
                    known.entry(it.handles).or_insert_with(|| of_new(it));
                }
                // These wait for their frame: the handles are good until then.
                for handles in state.waiting_handles() {
                    known.entry(handles).or_insert(Binding::Own);
                }
            }
            kept.push((state, live));
        }
        Ok(kept)
    }
}

fn of_new(resource: &Resource) -> Binding {
    if resource.dont_bind { Binding::Unbound } else { Binding::Own }
}

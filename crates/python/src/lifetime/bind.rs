//! Binding a resource to memory after both were made.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vkmem_vulkan::{BindPlace, ResourceHandle};

use pyo3::prelude::*;
use vkmem_engine::Error;

use super::close::open_allocators;
use super::ownership::{AllocatorState, Binding, DeviceCore, Resource, ResourceRef};
use crate::arguments::chains::chain_address;
use crate::arguments::numbers::unsigned;
use crate::errors::IntoPyResult;

/// Reads where something is bound, from arguments.
pub fn read_place(
    offset: Option<&Bound<'_, PyAny>>,
    bind_next: Option<&Bound<'_, PyAny>>,
) -> PyResult<BindPlace> {
    Ok(BindPlace {
        offset: offset.map_or(Ok(0), |offset| unsigned(offset, "offset"))?,
        next: bind_next.map_or(Ok(0), |next| chain_address(next, "bind_next"))?,
    })
}

/// What a walk over live things has held on to. Dropped after the table is unlocked: the last reference
/// of a resource may be among them, and its end looks into the table.
type Kept = Vec<(Arc<AllocatorState>, Vec<ResourceRef>)>;

/// Enters all that lives on a device. O(live resources), once.
#[cold]
fn complete(
    device: &DeviceCore,
    known: &mut HashMap<ResourceHandle, Binding>,
) -> Result<Kept, Error> {
    device.bindings.set_complete();
    let mut kept = Vec::new();
    for state in open_allocators() {
        let mut live = Vec::new();
        if std::ptr::eq(&*state.device, device) {
            let count = state.live.lock().len() + state.waiting().0;
            if known.try_reserve(count).is_err() {
                // What is in the table is true.
                device.bindings.set_incomplete();
                return Err(Error::TooManyItems(count));
            }
            live = state.live.lock().all();
            for it in live.iter().filter(|it| it.handle() != ResourceHandle::Memory) {
                known.entry(it.handle()).or_insert_with(|| Binding::of_new(it.dont_bind));
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

impl ResourceRef {
    /// Binds a resource of the caller's, or one of DONT_BIND, to this memory.
    pub fn bind(&self, py: Python<'_>, what: ResourceHandle, place: BindPlace) -> PyResult<()> {
        let _pin = self.enter(py)?;
        // The exception is made without the lock: that runs Python code, which may come back here.
        self.try_bind(what, place).or_raise(py)
    }

    /// Binds as `bind` does, and raises nothing: the error is the engine's.
    pub fn try_bind(&self, what: ResourceHandle, place: BindPlace) -> Result<(), Error> {
        let device = &self.allocator.device;
        // Declared first, so dropped last.
        let mut _kept = Kept::default();
        let mut bindings = device.bindings.lock();
        if !bindings.contains_key(&what) && !device.bindings.is_complete() {
            _kept = complete(device, &mut bindings)?;
        }
        if let Some(Binding::Own | Binding::Foreign(_)) = bindings.get(&what) {
            let class = what.class();
            return Err(Error::InvalidArgument(format!("the {class} is bound already")));
        }
        let allocator = &self.allocator.device_allocator;
        // SAFETY: the memory is live and pinned; the caller vouches for the resource and the chain.
        unsafe { allocator.bind(what, self.allocation(), place, || self.describe()) }?;
        if let Some(binding) = bindings.get_mut(&what) {
            *binding = if what == self.handle() {
                Binding::Own
            } else {
                self.bound_here.fetch_add(1, Ordering::AcqRel);
                Binding::Foreign(self.clone())
            };
        }
        Ok(())
    }
}

impl Resource {
    /// Whether it has memory, as far as this library knows: some drivers crash when they copy to or
    /// from what has none.
    pub fn is_bound(&self) -> bool {
        !self.dont_bind
            || !matches!(
                self.allocator.device.bindings.lock().get(&self.handle()),
                Some(Binding::Unbound)
            )
    }
}

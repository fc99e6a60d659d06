//! Binds a buffer or image to memory after both were created.

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

/// Reads the offset and the `pNext` chain of a bind from Python arguments.
pub fn read_place(
    offset: Option<&Bound<'_, PyAny>>,
    bind_next: Option<&Bound<'_, PyAny>>,
) -> PyResult<BindPlace> {
    Ok(BindPlace {
        offset: offset.map_or(Ok(0), |offset| unsigned(offset, "offset"))?,
        next: bind_next.map_or(Ok(0), |next| chain_address(next, "bind_next"))?,
    })
}

/// References taken while the lists of live resources were walked. Dropped after the table of bindings is
/// unlocked: one of them may be the last reference to a resource, whose end locks the table.
type HeldReferences = Vec<(Arc<AllocatorState>, Vec<ResourceRef>)>;

/// Adds all live resources of a device to its table of bindings. O(live resources), once per device.
#[cold]
fn enter_all_live(
    device: &DeviceCore,
    known: &mut HashMap<ResourceHandle, Binding>,
) -> Result<HeldReferences, Error> {
    device.bindings.set_complete();
    let mut kept = Vec::new();
    for state in open_allocators() {
        let mut live = Vec::new();
        if std::ptr::eq(&*state.device, device) {
            let count = state.live.lock().len() + state.waiting().0;
            if known.try_reserve(count).is_err() {
                // The entries that were added are correct; the table is only incomplete.
                device.bindings.set_incomplete();
                return Err(Error::TooManyItems(count));
            }
            live = state.live.lock().all();
            for it in live.iter().filter(|it| it.handle() != ResourceHandle::Memory) {
                known.entry(it.handle()).or_insert_with(|| Binding::of_new(it.dont_bind));
            }
            // Resources that wait for their frame keep their handles until then.
            for handles in state.waiting_handles() {
                known.entry(handles).or_insert(Binding::Own);
            }
        }
        kept.push((state, live));
    }
    Ok(kept)
}

impl ResourceRef {
    /// Binds a buffer or image of the caller, or one created with `DONT_BIND`, to this memory.
    pub fn bind(&self, py: Python<'_>, what: ResourceHandle, place: BindPlace) -> PyResult<()> {
        self.allocator.change(py, || {
            let _pin = self.enter(py)?;
            // The exception is created without the lock: that runs Python code, which may call this again.
            self.try_bind(what, place).or_raise(py)
        })
    }

    /// Binds as [`bind`](Self::bind) does, but returns the engine's error instead of raising an exception.
    pub fn try_bind(&self, what: ResourceHandle, place: BindPlace) -> Result<(), Error> {
        let device = &self.allocator.device;
        // Declared first, so dropped last: after `bindings` is unlocked.
        let mut _held = HeldReferences::default();
        let mut bindings = device.bindings.lock();
        if !bindings.contains_key(&what) && !device.bindings.is_complete() {
            _held = enter_all_live(device, &mut bindings)?;
        }
        if let Some(Binding::Own | Binding::Foreign(_)) = bindings.get(&what) {
            let class = what.class();
            return Err(Error::InvalidArgument(format!("the {class} is bound already")));
        }
        let allocator = &self.allocator.device_allocator;
        // SAFETY: the memory is live and pinned; the caller guarantees the resource and the chain.
        unsafe { allocator.bind(what, &self.allocation(), place, || self.describe()) }?;
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
    /// Returns whether the resource is bound to memory, as far as this library can tell. Some drivers crash
    /// when they copy to or from an unbound resource.
    pub fn is_bound(&self) -> bool {
        !self.dont_bind
            || !matches!(
                self.allocator.device.bindings.lock().get(&self.handle()),
                Some(Binding::Unbound)
            )
    }
}

//! Events for each `vkAllocateMemory` and `vkFreeMemory`.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use pyo3::ffi;
use pyo3::prelude::*;
use vkmem_engine::{MemoryEvent, MemoryEventKind, WakeUp};

use super::ownership::AllocatorState;
use crate::arguments::callback::{callable, current, exchange};
use crate::interpreter::try_attach;
use crate::process::forks::in_one_process;

/// One `VkDeviceMemory` that was allocated or freed.
#[pyclass(module = "vk_mem", frozen, get_all)]
pub struct DeviceMemoryEvent {
    /// "allocate" after `vkAllocateMemory`, "free" after `vkFreeMemory`.
    kind: &'static str,
    /// The `VkDeviceMemory`. The driver may have reused the handle of a freed one.
    memory: u64,
    /// Size in bytes.
    size: u64,
    /// Index into the device's memory types.
    memory_type_index: u32,
    /// Index into the device's heaps.
    heap_index: u32,
}

#[pymethods]
impl DeviceMemoryEvent {
    fn __repr__(&self) -> String {
        let Self { kind, memory, size, memory_type_index, heap_index } = self;
        format!(
            "<vk_mem.DeviceMemoryEvent {kind} memory={memory:#x} size={size} \
             memory_type_index={memory_type_index} heap_index={heap_index}>"
        )
    }
}

/// Clears the flag when dropped: the delivery of events ends.
struct Delivery<'a>(&'a AtomicBool);

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl AllocatorState {
    /// Sets the callback; see `Allocator.on_device_memory`.
    pub fn listen_to_device_memory(self: &Arc<Self>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        let callback = callable(callback)?;
        let is_set = callback.is_some();
        exchange(&self.device_memory.callback, callback);
        let (state, is_requested) = (Arc::downgrade(self), self.device_memory.is_requested.clone());
        let wake_up =
            is_set.then(|| Arc::new(move || request_delivery(&state, &is_requested)) as WakeUp);
        self.engine().watch_memory(wake_up);
        Ok(())
    }

    /// Removes the callback when the Python object ends: resources may keep the Rust half alive, where the
    /// cycle collector cannot traverse the callback.
    pub fn stop_delivery(&self) {
        if !self.device.is_forked() {
            self.device_memory.clear();
            self.engine().watch_memory(None);
        }
    }

    /// Calls the callback for each event since the last delivery. If another thread is delivering, that
    /// thread delivers these, too. Events of a thread without Python are delivered by the next call, or by
    /// the main thread between two bytecodes, whichever comes first.
    pub fn tell_device_memory(&self, py: Python<'_>) {
        loop {
            // The GIL is not released between the last check for events and the end of the delivery, so no
            // event is missed that another thread left to this one.
            if self.device_memory.is_delivering.swap(true, Ordering::SeqCst) {
                return;
            }
            let delivery = Delivery(&self.device_memory.is_delivering);
            let events = self.engine().take_memory_events();
            if events.is_empty() {
                return;
            }
            for event in events {
                self.deliver_one(py, event);
            }
            drop(delivery);
        }
    }

    fn deliver_one(&self, py: Python<'_>, event: MemoryEvent) {
        let Some(callback) = current(py, &self.device_memory.callback) else { return };
        let MemoryEvent { kind, memory, memory_type_index, size } = event;
        let event = DeviceMemoryEvent {
            kind: match kind {
                MemoryEventKind::Allocate => "allocate",
                MemoryEventKind::Free => "free",
            },
            memory: memory.0,
            size,
            memory_type_index,
            heap_index: self.engine().device().info().heap_of(memory_type_index),
        };
        // The call that caused the event has finished its work; in the child of a fork it has only to return
        // its result.
        let called = in_one_process(py, || callback.call1((event,)));
        if let Err(error) = called.and_then(|it| it) {
            error.write_unraisable(py, Some(&callback));
        }
    }
}

/// The argument of [`deliver_requested`].
struct DeliveryRequest {
    state: Weak<AllocatorState>,
    is_requested: Arc<AtomicBool>,
}

/// Makes the main thread deliver the events soon, if no call does before. Runs on any thread, with locks of
/// the engine held, so it takes no strong reference to the allocator: that might become the last one and end
/// the allocator here.
fn request_delivery(state: &Weak<AllocatorState>, is_requested: &Arc<AtomicBool>) {
    if is_requested.swap(true, Ordering::SeqCst) {
        return;
    }
    let request =
        Box::new(DeliveryRequest { state: state.clone(), is_requested: is_requested.clone() });
    let request = Box::into_raw(request);
    // SAFETY: may be called by any thread, with or without the GIL; `deliver_requested` takes ownership of
    // what the argument points to.
    if unsafe { ffi::Py_AddPendingCall(Some(deliver_requested), request.cast()) } != 0 {
        // The interpreter's queue of pending calls is full: the next call delivers.
        is_requested.store(false, Ordering::SeqCst);
        // SAFETY: `deliver_requested` was not registered, so the box is still owned here.
        drop(unsafe { Box::from_raw(request) });
    }
}

/// Delivers the events; called by the interpreter on the main thread, with the GIL and between two bytecodes.
extern "C" fn deliver_requested(request: *mut c_void) -> c_int {
    // SAFETY: allocated by `request_delivery` for this call.
    let DeliveryRequest { state, is_requested } =
        *unsafe { Box::from_raw(request.cast::<DeliveryRequest>()) };
    is_requested.store(false, Ordering::SeqCst);
    if let Some(state) = state.upgrade().filter(|state| !state.is_abandoned()) {
        try_attach(|py| state.tell_device_memory(py));
    }
    0
}

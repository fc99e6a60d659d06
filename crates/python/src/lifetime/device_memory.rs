//! Telling a program of each `vkAllocateMemory` and `vkFreeMemory`.

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

/// One `VkDeviceMemory` that the driver gave or took back.
#[pyclass(module = "vk_mem", frozen, get_all)]
pub struct DeviceMemoryEvent {
    /// "allocate" after `vkAllocateMemory`, "free" after `vkFreeMemory`.
    kind: &'static str,
    /// The `VkDeviceMemory`. One that was freed may be another's by now.
    memory: u64,
    /// Bytes of it.
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

/// Ends the telling, however it ends.
struct Telling<'a>(&'a AtomicBool);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl AllocatorState {
    /// See `Allocator.on_device_memory`.
    pub fn listen_to_device_memory(self: &Arc<Self>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        let callback = callable(callback)?;
        let is_set = callback.is_some();
        exchange(&self.device_memory.callback, callback);
        let (state, is_asked) = (Arc::downgrade(self), self.device_memory.is_asked.clone());
        let wake_up =
            is_set.then(|| Arc::new(move || ask_main_thread(&state, &is_asked)) as WakeUp);
        self.engine().watch_memory(wake_up);
        Ok(())
    }

    /// At the end of the Python object: the shared half may live on in resources, where the cycle collector
    /// cannot follow the callback.
    pub fn stop_telling(&self) {
        if !self.device.is_forked() {
            self.device_memory.clear();
            self.engine().watch_memory(None);
        }
    }

    /// Calls back for each memory object that came or went since. On the thread whose call it was, or on
    /// one that is calling back already; what a thread without Python did is told by the next call, or by
    /// the main thread between two steps of its own, whichever comes first.
    pub fn tell_device_memory(&self, py: Python<'_>) {
        loop {
            // Between this and the end of the telling the interpreter is not let go of, so no event is
            // missed that a thread put there and left to this one.
            if self.device_memory.is_telling.swap(true, Ordering::SeqCst) {
                return;
            }
            let telling = Telling(&self.device_memory.is_telling);
            let events = self.engine().take_memory_events();
            if events.is_empty() {
                return;
            }
            for event in events {
                self.tell_one(py, event);
            }
            drop(telling);
        }
    }

    fn tell_one(&self, py: Python<'_>, event: MemoryEvent) {
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
        // The call that did it has done its work; in the child of a fork it is over but for its result.
        let called = in_one_process(py, || callback.call1((event,)));
        if let Err(error) = called.and_then(|it| it) {
            error.write_unraisable(py, Some(&callback));
        }
    }
}

/// What the main thread is given.
struct Ask {
    state: Weak<AllocatorState>,
    is_asked: Arc<AtomicBool>,
}

/// Has the main thread tell soon, if no call does before. Runs on any thread, with locks of the engine held:
/// so it takes no reference to the allocator, which might become the last one and end it here.
fn ask_main_thread(state: &Weak<AllocatorState>, is_asked: &Arc<AtomicBool>) {
    if is_asked.swap(true, Ordering::SeqCst) {
        return;
    }
    let ask = Box::new(Ask { state: state.clone(), is_asked: is_asked.clone() });
    let ask = Box::into_raw(ask);
    // SAFETY: may be called by any thread, with or without the interpreter; the function takes what the
    // argument points to.
    if unsafe { ffi::Py_AddPendingCall(Some(tell_soon), ask.cast()) } != 0 {
        // The interpreter's list is full: the next call tells.
        is_asked.store(false, Ordering::SeqCst);
        // SAFETY: nobody has taken it.
        drop(unsafe { Box::from_raw(ask) });
    }
}

/// Runs on the main thread, with the interpreter and between two steps of Python code.
extern "C" fn tell_soon(ask: *mut c_void) -> c_int {
    // SAFETY: made by `ask_main_thread` for this call.
    let Ask { state, is_asked } = *unsafe { Box::from_raw(ask.cast::<Ask>()) };
    is_asked.store(false, Ordering::SeqCst);
    if let Some(state) = state.upgrade().filter(|state| !state.is_abandoned()) {
        try_attach(|py| state.tell_device_memory(py));
    }
    0
}

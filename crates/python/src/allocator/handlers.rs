//! Callbacks and warnings of an allocator: heaps that reach their threshold, memory that runs out, more
//! memory objects than the device reports as its limit.

use std::ffi::CString;
use std::sync::Arc;
use std::thread::{self, ThreadId};

use pyo3::exceptions::{PyRuntimeWarning, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::words::counted;
use vkmem_engine::{Error, FailedItem, LOSSES, MEMORY_EVENTS, PAST_ALLOCATION_COUNT};

use crate::arguments::callback::{Callback, callable, current, exchange};
use crate::errors::{is_ours, to_py, to_py_of_item};
use crate::lifetime::ownership::AllocatorState;
use crate::moving::room::RoomMover;
use crate::objects::loss_callbacks;
use crate::objects::statistics::HeapBudget;
use crate::observe::event::{Event, EventKind};
use crate::process::forks::in_one_process;

/// The callbacks of an allocator. They run without locks, on the thread whose call noticed.
#[derive(Default)]
pub struct Handlers {
    out_of_memory: Callback,
    pressure: Callback,
    /// Called when resources have moved.
    pub(super) moved: Callback,
    /// What moves resources for requests that others are lost for, and what has moved for that.
    pub(super) rooms: Arc<RoomMover>,
    /// Threads inside the callback of `on_out_of_memory`, or of moves that make room: their own failures do neither.
    handling: Mutex<Vec<ThreadId>, rank::Handling>,
}

/// The failure of an attempt to allocate.
pub trait Failure {
    /// Returns the engine's error.
    fn error(&self) -> &Error;

    /// Returns the exception.
    fn raise(self, py: Python<'_>) -> PyErr;
}

impl Failure for Error {
    fn error(&self) -> &Error {
        self
    }

    fn raise(self, py: Python<'_>) -> PyErr {
        to_py(py, &self)
    }
}

impl Failure for FailedItem {
    fn error(&self) -> &Error {
        &self.error
    }

    fn raise(self, py: Python<'_>) -> PyErr {
        to_py_of_item(py, &self.error, self.index)
    }
}

/// Reads the answer of `on_out_of_memory`. Only True asks for another attempt: any other true value would be
/// a mistake that repeats for ever.
fn read_answer(answer: &Bound<'_, PyAny>) -> PyResult<bool> {
    if answer.is_none() {
        return Ok(false);
    }
    answer.extract().map_err(|_| {
        let kind = answer.get_type().name().map_or("?".into(), |name| name.to_string());
        PyTypeError::new_err(format!(
            "the callback of on_out_of_memory must answer True or False, not {kind}"
        ))
    })
}

#[cold]
fn warn_past_count(py: Python<'_>, state: &AllocatorState) {
    let limit = state.engine().device().info().limits.max_memory_allocation_count;
    let text = format!(
        "the device has more than {}, which is its maxMemoryAllocationCount \
         (enforce_allocation_count=False)",
        counted(limit, "memory object")
    );
    // The text has no null byte.
    let text = CString::new(text).unwrap_or_default();
    let category = py.get_type::<PyRuntimeWarning>();
    if let Err(error) = PyErr::warn(py, &category, &text, 1) {
        error.write_unraisable(py, None);
    }
}

/// Removes this thread from `handling` when dropped, also if the callback raises.
pub(super) struct HandlingGuard<'a>(&'a Handlers);

impl Drop for HandlingGuard<'_> {
    fn drop(&mut self) {
        let me = thread::current().id();
        self.0.handling.lock().retain(|&other| other != me);
    }
}

impl Handlers {
    /// Enters the callback of `on_out_of_memory`, or moves that make room; `None` on a thread that is inside of
    /// either.
    pub(super) fn begin_handling(&self) -> Option<HandlingGuard<'_>> {
        let me = thread::current().id();
        let mut handling = self.handling.lock();
        if handling.contains(&me) {
            return None;
        }
        handling.push(me);
        Some(HandlingGuard(self))
    }

    /// Sets the callback of `Allocator.on_out_of_memory`.
    pub fn set_out_of_memory(&self, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        exchange(&self.out_of_memory, callable(callback)?);
        Ok(())
    }

    /// Sets the callback of `Allocator.on_pressure`; returns whether there is one now.
    pub fn set_pressure(&self, callback: &Bound<'_, PyAny>) -> PyResult<bool> {
        let callback = callable(callback)?;
        let is_set = callback.is_some();
        exchange(&self.pressure, callback);
        Ok(is_set)
    }

    /// Sets the callback of `Allocator.on_move`.
    pub fn set_moved(&self, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        exchange(&self.moved, callable(callback)?);
        Ok(())
    }

    /// Runs an attempt that undoes everything when it fails; repeats it as long as memory is missing and the
    /// callback returns that it has freed some.
    pub fn retrying<T, F: Failure>(
        &self,
        py: Python<'_>,
        state: &AllocatorState,
        mut attempt: impl FnMut() -> Result<T, F>,
    ) -> PyResult<T> {
        loop {
            state.note_call_site(py);
            let failure = match attempt() {
                Ok(made) => return Ok(made),
                Err(failure) => failure,
            };
            if !matches!(failure.error(), Error::InvalidArgument(_)) {
                state.events.tell(EventKind::Failure, || Event::Failure(failure.error()));
            }
            self.call_pending(py, state);
            let missing = failure.error().is_shortage();
            let callback = current(py, &self.out_of_memory).filter(|_| missing);
            let Some(callback) = callback else { return Err(failure.raise(py)) };
            let error = failure.raise(py);
            let Some(_inside) = self.begin_handling().filter(|_| is_ours(py, &error)) else {
                return Err(error);
            };
            let answer = in_one_process(py, || callback.call1((error.value(py),)))?;
            let answer = answer.and_then(|it| read_answer(&it));
            match answer {
                // A callback without Python code would never handle a signal.
                Ok(true) => py.check_signals().inspect_err(|interrupt| {
                    interrupt.set_context(py, Some(error));
                })?,
                Ok(false) => return Err(error),
                Err(theirs) => {
                    theirs.set_context(py, Some(error));
                    return Err(theirs);
                }
            }
        }
    }

    /// Calls the callback for each heap that has reached its threshold, and warns if there are more memory
    /// objects than the device allows. Exceptions are printed, not raised, as the call that noticed has
    /// finished its work.
    #[inline]
    pub fn call_pending(&self, py: Python<'_>, state: &AllocatorState) {
        let pressed = state.engine().take_pressed();
        if pressed != 0 {
            self.call_all(py, state, pressed);
        }
    }

    #[cold]
    fn call_all(&self, py: Python<'_>, state: &AllocatorState, pressed: u32) {
        if pressed & MEMORY_EVENTS != 0 {
            state.tell_device_memory(py);
        }
        if pressed & LOSSES != 0 {
            loss_callbacks::call(py, state);
            self.rooms.call_back(py, &self.moved);
        }
        self.call_back(py, state, pressed & !(PAST_ALLOCATION_COUNT | MEMORY_EVENTS | LOSSES));
        if pressed & PAST_ALLOCATION_COUNT != 0 {
            warn_past_count(py, state);
        }
    }

    fn call_back(&self, py: Python<'_>, state: &AllocatorState, pressed: u32) {
        let callback = current(py, &self.pressure).filter(|_| pressed != 0);
        let Some(callback) = callback else { return };
        let Some(_inside) = state.pins.pin(py) else { return };
        let budgets = state.engine().heap_budgets();
        for (heap, budget) in budgets.into_iter().enumerate() {
            if pressed >> heap & 1 == 0 {
                continue;
            }
            // In the child of a fork the call has only to return its result: no callback is called any more.
            let called = in_one_process(py, || callback.call1((heap, HeapBudget::from(budget))));
            if let Err(error) = called.and_then(|it| it) {
                error.write_unraisable(py, Some(&callback));
            }
        }
    }

    /// Traverses the callbacks for the cycle collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in [&self.out_of_memory, &self.pressure, &self.moved] {
            // If another thread holds the lock, the object is reachable, and so is the callback.
            if let Some(callback) = slot.try_lock() {
                visit.call(&*callback)?;
            }
        }
        Ok(())
    }

    /// Removes the callbacks, for the cycle collector and at the end.
    pub fn clear(&self) {
        exchange(&self.out_of_memory, None);
        exchange(&self.pressure, None);
        exchange(&self.moved, None);
    }
}

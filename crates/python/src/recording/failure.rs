//! Telling Python that the file of a recording cannot be written any more, from the thread that writes.

use std::ffi::{c_int, c_void};
use std::sync::Weak;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::interpreter::try_attach;

/// Something that can fail while no Python code runs.
pub trait Fails: Send + Sync {
    /// Warns of that.
    fn warn_of_failure(&self, py: Python<'_>);
}

/// What the thread that writes does when its file fails.
pub struct Told(Weak<dyn Fails>);

impl Told {
    pub fn new(fails: Weak<dyn Fails>) -> Self {
        Self(fails)
    }

    /// Makes the main thread warn soon, between two steps of Python code; if that is not possible, the end of the
    /// recording does.
    pub fn ask_to_tell(&self) {
        let fails: *mut Weak<dyn Fails> = Box::into_raw(Box::new(self.0.clone()));
        // SAFETY: may be called by any thread, with or without the GIL; `tell` takes ownership of what the argument
        // points to.
        if unsafe { ffi::Py_AddPendingCall(Some(tell), fails.cast()) } != 0 {
            // SAFETY: `tell` was not registered, so the box is still owned here.
            drop(unsafe { Box::from_raw(fails) });
        }
    }
}

/// Warns; called by the interpreter on the main thread, with the GIL and between two bytecodes.
extern "C" fn tell(fails: *mut c_void) -> c_int {
    // SAFETY: allocated by `ask_to_tell` for this call.
    let fails = *unsafe { Box::from_raw(fails.cast::<Weak<dyn Fails>>()) };
    if let Some(fails) = fails.upgrade() {
        try_attach(|py| fails.warn_of_failure(py));
    }
    0
}
